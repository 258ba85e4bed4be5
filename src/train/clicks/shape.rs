//! The shape of a network over an encoding of listens: which inputs it has, and what each is about.

use super::settings::ClickSettings;
use crate::dataset::listens::{Encoding, Variant};
use crate::dataset::listens::{FeatureGroup, Field, number_names};
use crate::scoring::clicks::shape::{Architecture, ClickShape, Subject};

/// Fields that networks embed.
pub(super) fn fields(variant: Variant) -> Vec<Field> {
    let after = [Field::AfterScreen, Field::AfterType, Field::AfterLanguage];
    Field::ALL.into_iter().filter(|field| variant == Variant::Transductive || !after.contains(field)).collect()
}

fn subject_of_field(field: Field) -> Subject {
    match field {
        Field::User | Field::City | Field::Gender | Field::RegisteredVia => Subject::User,
        Field::Track | Field::Artist | Field::Language | Field::Country | Field::FirstGenre | Field::SecondGenre => {
            Subject::Track
        }
        _ => Subject::Context,
    }
}

fn subject_of_number(group: FeatureGroup, name: &str) -> Subject {
    match group {
        FeatureGroup::Member | FeatureGroup::Profile => Subject::User,
        FeatureGroup::Track => Subject::Track,
        FeatureGroup::Counts | FeatureGroup::Taste if name.starts_with("user") => Subject::User,
        FeatureGroup::Counts => Subject::Track,
        _ => Subject::Context,
    }
}

/// The shape of a network over an encoding.
pub fn shape(architecture: Architecture, encoding: &Encoding, settings: &ClickSettings) -> ClickShape {
    let names = number_names();
    let mut subjects: Vec<Subject> =
        encoding.numbers.iter().map(|&place| subject_of_number(names[place].0, &names[place].1)).collect();
    let of_missing: Vec<Subject> = encoding.missing.iter().map(|&place| subjects[place]).collect();
    subjects.extend(of_missing);
    let mut groups: Vec<FeatureGroup> = encoding.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    let number_groups = encoding.groups.iter().map(|group| groups.binary_search(group).unwrap_or_default()).collect();
    ClickShape {
        architecture,
        rows: encoding.table_rows(),
        field_subjects: encoding.fields.iter().map(|&field| subject_of_field(field)).collect(),
        number_subjects: subjects,
        number_groups,
        dim: settings.dim as usize,
        hidden: settings.hidden.iter().map(|&units| units as usize).collect(),
        cross_layers: settings.cross_layers as usize,
        dropout: settings.dropout,
    }
}
