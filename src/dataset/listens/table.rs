//! Listens as rows to learn from and to be scored, by replaying them through a [`ClickState`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::describe::{Hindsight, NUMBERS, describe, number_names};
use super::history::Listening;
use super::schema::{FIELDS, FeatureGroup, Field};
use super::state::{ClickState, Side};
use super::taste::Tastes;

/// What a row may know. See [`super::describe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// only earlier listens, as a server does
    Causal,
    /// all listens, earlier and later, without their targets
    Transductive,
}

/// Listens with a known target, described.
#[derive(Debug, Clone, Default)]
pub struct ClickTable {
    /// `[rows, FIELDS]`
    pub fields: Vec<u32>,
    /// `[rows, NUMBERS]`
    pub numbers: Vec<f32>,
    /// whether the user came back
    pub targets: Vec<bool>,
    /// the user of each row
    pub users: Vec<u32>,
    /// place of each row among all listens
    pub clicks: Vec<usize>,
}

impl ClickTable {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.targets.len()
    }

    /// Some of the rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut selected = Self::default();
        for &row in rows {
            selected.fields.extend_from_slice(&self.fields[row * FIELDS..(row + 1) * FIELDS]);
            selected.numbers.extend_from_slice(&self.numbers[row * NUMBERS..(row + 1) * NUMBERS]);
            selected.targets.push(self.targets[row]);
            selected.users.push(self.users[row]);
            selected.clicks.push(self.clicks[row]);
        }
        selected
    }
}

/// Listens that tastes are learned from first.
const FIRST_TASTES: usize = 1_000;

/// Describes all listens whose target is known, in order, and gives the state at the end. The targets of those that
/// `hidden` names are never learned. Tastes are learned from the first `taught` listens, again each time that there are half
/// as many again, and at the end of them; in the transductive variant once, from all.
pub fn replay(
    listening: &Listening,
    variant: Variant,
    taught: usize,
    threads: usize,
    hidden: impl Fn(usize) -> bool,
) -> (ClickTable, ClickState) {
    let hindsight = (variant == Variant::Transductive).then(|| {
        let (mut whole, after) = backwards(listening);
        whole.tastes = Arc::new(Tastes::learn(listening, listening.clicks.len(), threads));
        (whole, after)
    });
    let mut table = ClickTable::default();
    let mut state = ClickState::default();
    let mut next = FIRST_TASTES;
    for place in 0..listening.clicks.len() {
        if hindsight.is_none() && (place == next && place < taught || place == taught) {
            state.tastes = Arc::new(Tastes::learn(listening, place, threads));
            next = place + place / 2;
        }
        let mut listen = listening.listen(place);
        if let Some(target) = listen.click.target {
            let row = table.rows();
            table.fields.resize((row + 1) * FIELDS, 0);
            table.numbers.resize((row + 1) * NUMBERS, 0.0);
            let hindsight = hindsight.as_ref().map(|(whole, after)| Hindsight { whole, after: &after[place] });
            let (fields, numbers) = (&mut table.fields[row * FIELDS..], &mut table.numbers[row * NUMBERS..]);
            describe(&state, hindsight, &listen, fields, numbers);
            table.targets.push(target);
            table.users.push(listen.click.user);
            table.clicks.push(place);
            if hidden(place) {
                listen.click.target = None;
            }
        }
        state.take(&listen);
    }
    match hindsight {
        Some((whole, _)) => state.tastes = whole.tastes,
        None if taught >= listening.clicks.len() => {
            state.tastes = Arc::new(Tastes::learn(listening, listening.clicks.len(), threads));
        }
        None => {}
    }
    (table, state)
}

/// The state after all listens, and what lies after each: what lies before it when they are replayed from the end.
fn backwards(listening: &Listening) -> (ClickState, Vec<Side>) {
    let mut state = ClickState::default();
    let mut sides = vec![Side::default(); listening.clicks.len()];
    for place in (0..listening.clicks.len()).rev() {
        let mut listen = listening.listen(place);
        listen.click.target = None;
        sides[place] = state.side(listen.click.user, listen.click.track);
        state.take(&listen);
    }
    (state, sides)
}

/// How rows of a table become inputs of a model: embeddings' rows, and standardized numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// fields that take part
    pub fields: Vec<Field>,
    /// for each field's table the row of each value from 0 on; values hindsight the end, and rare ones, have row 0
    #[serde(skip)]
    pub rows: Vec<Vec<u32>>,
    /// for each field where its table begins in the one table of all, with the end
    pub offsets: Vec<u32>,
    /// numbers that take part, by their places among all
    pub numbers: Vec<usize>,
    /// what is subtracted from each of them
    pub means: Vec<f32>,
    /// what each is divided by then
    pub deviations: Vec<f32>,
    /// places among `numbers` of those for which a second input says that they are not known
    pub missing: Vec<usize>,
    /// groups of the numbers, in the order of inputs
    pub groups: Vec<FeatureGroup>,
}

/// Standardized numbers are limited to ± this.
const LARGEST: f32 = 4.0;

/// Inputs of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs {
    /// `[rows, fields]`: rows of the one table of all fields
    pub fields: Vec<u32>,
    /// `[rows, numbers]`
    pub numbers: Vec<f32>,
}

impl Encoding {
    /// Learned from a table: values that occur `min_count` times get a row, and numbers their mean and deviation.
    pub fn learn(table: &ClickTable, fields: &[Field], groups: &[FeatureGroup], min_count: u32) -> Self {
        let places: Vec<usize> = fields
            .iter()
            .map(|field| Field::ALL.iter().position(|one| one == field))
            .map(Option::unwrap_or_default)
            .collect();
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let mut offsets = vec![0];
        for field in fields {
            let mut counts: Vec<u32> = Vec::new();
            for (other, &place) in fields.iter().zip(&places) {
                if other.table() != field.table() {
                    continue;
                }
                for &value in table.fields.iter().skip(place).step_by(FIELDS) {
                    let value = value as usize;
                    if counts.len() <= value {
                        counts.resize(value + 1, 0);
                    }
                    counts[value] += 1;
                }
            }
            let mut next = 0;
            let of_value = counts.iter().enumerate().map(|(value, &count)| {
                if value == 0 || count < min_count {
                    return 0;
                }
                next += 1;
                next
            });
            rows.push(of_value.collect());
            offsets.push(offsets.last().copied().unwrap_or_default() + next + 1);
        }
        let mut encoding = Self {
            fields: fields.to_vec(),
            rows,
            offsets,
            numbers: Vec::new(),
            means: Vec::new(),
            deviations: Vec::new(),
            missing: Vec::new(),
            groups: Vec::new(),
        };
        for (place, (group, _)) in number_names().into_iter().enumerate() {
            if !groups.contains(&group) {
                continue;
            }
            let values = || table.numbers.iter().skip(place).step_by(NUMBERS).filter(|value| !value.is_nan());
            let known = values().count();
            let mean = values().map(|&value| f64::from(value)).sum::<f64>() / known.max(1) as f64;
            let variance = values().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / known.max(1) as f64;
            // What never differs says nothing.
            if variance < 1e-9 {
                continue;
            }
            if known < table.rows() {
                encoding.missing.push(encoding.numbers.len());
            }
            encoding.numbers.push(place);
            encoding.means.push(mean as f32);
            encoding.deviations.push(variance.sqrt() as f32);
            encoding.groups.push(group);
        }
        let of_missing: Vec<FeatureGroup> = encoding.missing.iter().map(|&place| encoding.groups[place]).collect();
        encoding.groups.extend(of_missing);
        encoding
    }

    /// Number of inputs that are numbers.
    pub fn width(&self) -> usize {
        self.numbers.len() + self.missing.len()
    }

    /// Rows of the one table of all fields.
    pub fn table_rows(&self) -> usize {
        self.offsets.last().copied().unwrap_or_default() as usize
    }

    /// Inputs of rows that [`describe`] describes: `[rows, FIELDS]` and `[rows, NUMBERS]`.
    pub fn encode(&self, fields: &[u32], numbers: &[f32]) -> Inputs {
        let places: Vec<usize> = self
            .fields
            .iter()
            .map(|field| Field::ALL.iter().position(|one| one == field).unwrap_or_default())
            .collect();
        let count = fields.len() / FIELDS;
        let mut inputs = Inputs {
            fields: Vec::with_capacity(count * self.fields.len()),
            numbers: Vec::with_capacity(count * self.width()),
        };
        for (fields, numbers) in fields.chunks_exact(FIELDS).zip(numbers.chunks_exact(NUMBERS)) {
            for (place, (rows, offset)) in places.iter().zip(self.rows.iter().zip(&self.offsets)) {
                inputs.fields.push(offset + rows.get(fields[*place] as usize).copied().unwrap_or(0));
            }
            for (place, (mean, deviation)) in self.numbers.iter().zip(self.means.iter().zip(&self.deviations)) {
                let value = numbers[*place];
                let standard = ((value - mean) / deviation).clamp(-LARGEST, LARGEST);
                inputs.numbers.push(if value.is_nan() { 0.0 } else { standard });
            }
            for &place in &self.missing {
                inputs.numbers.push(f32::from(u8::from(numbers[self.numbers[place]].is_nan())));
            }
        }
        inputs
    }
}
