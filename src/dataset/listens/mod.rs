//! Listens as rows to learn click probability from.

mod describe;
mod history;
mod schema;
mod state;
mod table;
mod taste;

pub use describe::{Hindsight, NUMBERS, describe, number_names};
pub use history::{
    Click, Listen, ListenSource, Listening, ListeningBuilder, SourceValues, TrackFields, UNKNOWN, UserFields,
};
pub use schema::{FIELDS, FeatureGroup, Field};
pub use state::{ClickState, HISTORY, Side, StateArrays};
pub use table::{ClickTable, Encoding, Inputs, Variant, replay};
pub use taste::{Taste, Tastes};
