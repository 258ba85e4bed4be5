//! Fields of rows in JSON as sources write them: a field that can be read is read, whatever type it was written as, and
//! one that can't is left out of its row and listed.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use super::times;

/// Largest whole number up to which each has a floating-point number of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A field that was left out of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omitted {
    /// path of the field in the row: `tracks[3].duration_ms`
    pub field: String,
    /// why
    pub reason: String,
}

/// The fields that were left out of a row.
#[derive(Debug, Default)]
pub struct Omissions {
    track: Option<usize>,
    /// in the order of the row
    pub list: Vec<Omitted>,
}

impl Omissions {
    /// From here on, fields are those of a track of the row.
    pub fn in_track(&mut self, index: usize) {
        self.track = Some(index);
    }

    /// From here on, fields are those of the row itself.
    pub fn in_row(&mut self) {
        self.track = None;
    }

    /// Adds a field; an empty name is the track as a whole.
    pub fn add(&mut self, name: &str, reason: String) {
        let field = match self.track {
            None => name.to_owned(),
            Some(index) if name.is_empty() => format!("tracks[{index}]"),
            Some(index) => format!("tracks[{index}].{name}"),
        };
        self.list.push(Omitted { field, reason });
    }

    /// Returns what `check` makes of a field; one that is useless is added to the list.
    pub fn take<T, R, E: fmt::Display>(
        &mut self,
        name: &str,
        field: Field<T>,
        check: impl FnOnce(T) -> Result<R, E>,
    ) -> Option<R> {
        let reason = match field {
            Field::Absent => return None,
            Field::Stated(value) => match check(value) {
                Ok(made) => return Some(made),
                Err(error) => error.to_string(),
            },
            Field::Useless(reason) => reason,
        };
        self.add(name, reason);
        None
    }
}

/// A field of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Field<T> {
    /// missing, null or an empty text
    #[default]
    Absent,
    /// a value
    Stated(T),
    /// something that can't be read, and why
    Useless(String),
}

impl<T> Field<T> {
    /// Returns what `check` makes of a field that a row can't do without.
    ///
    /// # Errors
    ///
    /// If it is missing or useless.
    pub fn required<R, E: fmt::Display>(self, name: &str, check: impl FnOnce(T) -> Result<R, E>) -> Result<R, String> {
        match self {
            Self::Absent => Err(format!("{name}: must not be empty")),
            Self::Stated(value) => check(value).map_err(|error| format!("{name}: {error}")),
            Self::Useless(reason) => Err(format!("{name}: {reason}")),
        }
    }
}

impl<T> From<Option<T>> for Field<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Stated)
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stated(value) => serializer.serialize_some(value),
            Self::Absent | Self::Useless(_) => serializer.serialize_none(),
        }
    }
}

/// A value of JSON that is neither null nor a list nor an object.
#[derive(Debug)]
pub enum Scalar<'de> {
    /// a text
    Text(Cow<'de, str>),
    /// a whole number
    Whole(i64),
    /// a whole number larger than that
    Large(u64),
    /// a number with a decimal point or an exponent
    Float(f64),
    /// true or false
    Flag(bool),
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => {
                let shown: String = text.chars().take(40).collect();
                write!(formatter, "{shown:?}")
            }
            Self::Whole(number) => write!(formatter, "{number}"),
            Self::Large(number) => write!(formatter, "{number}"),
            Self::Float(number) => write!(formatter, "{number:?}"),
            Self::Flag(flag) => write!(formatter, "{flag}"),
        }
    }
}

/// What a field can hold.
pub trait Readable<'de>: Sized {
    /// What it must be, for errors.
    const EXPECTED: &'static str;

    /// Reads a value; the value comes back if it can't be read.
    ///
    /// # Errors
    ///
    /// Why, in words of its own or with the value.
    fn read(value: Scalar<'de>) -> Result<Self, String>;

    /// Reads a list.
    fn read_list<A: SeqAccess<'de>>(mut list: A) -> Result<Field<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Useless(unlike::<Self>("a list")))
    }
}

fn unlike<'de, T: Readable<'de>>(value: impl fmt::Display) -> String {
    format!("must be {}, not {value}", T::EXPECTED)
}

impl<'de: 'a, 'a> Readable<'de> for Cow<'a, str> {
    const EXPECTED: &'static str = "text";

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        Ok(match value {
            Scalar::Text(text) => text,
            Scalar::Flag(_) => return Err(unlike::<Self>(value)),
            number => Cow::Owned(number.to_string()),
        })
    }
}

/// An id of the app: text, or a whole number, which is taken as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LineId<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Readable<'de> for LineId<'a> {
    const EXPECTED: &'static str = "an id: text or a whole number";

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        match value {
            Scalar::Text(text) => Ok(Self(text)),
            Scalar::Whole(_) | Scalar::Large(_) => Ok(Self(Cow::Owned(value.to_string()))),
            // Beyond that, several numbers become one.
            Scalar::Float(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
                Ok(Self(Cow::Owned((number as i64).to_string())))
            }
            Scalar::Float(number) if number.fract() == 0.0 => {
                Err("has too many digits for a number: write it as text".to_owned())
            }
            Scalar::Float(_) | Scalar::Flag(_) => Err(unlike::<Self>(value)),
        }
    }
}

/// A whole number, written 3, 3.0 or "3".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Whole(pub i64);

impl Whole {
    /// Returns a number without a fraction.
    pub fn of(number: f64) -> Option<Self> {
        // A cast would saturate.
        (number.fract() == 0.0 && number.abs() < 2f64.powi(63)).then_some(Self(number as i64))
    }
}

impl<'de> Readable<'de> for Whole {
    const EXPECTED: &'static str = "a whole number";

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        let number = match &value {
            Scalar::Whole(number) => Some(Self(*number)),
            Scalar::Float(number) => Self::of(*number),
            Scalar::Text(text) => whole_number(text).map(Self),
            Scalar::Large(_) => return Err("is too large".to_owned()),
            Scalar::Flag(_) => None,
        };
        number.ok_or_else(|| match value {
            Scalar::Float(number) if number.fract() == 0.0 => "is too large".to_owned(),
            value => unlike::<Self>(value),
        })
    }
}

/// Reads a whole number written as text: 3 or 3.0.
pub fn whole_number(text: &str) -> Option<i64> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse().ok().and_then(Whole::of).map(|Whole(number)| number))
}

impl<'de> Readable<'de> for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        let flag = match &value {
            Scalar::Flag(flag) => Some(*flag),
            Scalar::Whole(number) => [false, true].into_iter().find(|flag| i64::from(*flag) == *number),
            Scalar::Text(text) => {
                let is = |other: &str| text.trim().eq_ignore_ascii_case(other);
                if is("true") { Some(true) } else { is("false").then_some(false) }
            }
            Scalar::Large(_) | Scalar::Float(_) => None,
        };
        flag.ok_or_else(|| unlike::<Self>(value))
    }
}

impl<'de> Readable<'de> for OffsetDateTime {
    const EXPECTED: &'static str = times::EXPECTED;

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        match value {
            Scalar::Text(text) => times::from_text(&text),
            Scalar::Whole(number) => times::from_number(number as f64),
            Scalar::Large(number) => times::from_number(number as f64),
            Scalar::Float(number) => times::from_number(number),
            Scalar::Flag(_) => Err(unlike::<Self>(value)),
        }
    }
}

impl<'de> Readable<'de> for f32 {
    const EXPECTED: &'static str = "a number";

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        match &value {
            Scalar::Whole(number) => Ok(*number as Self),
            Scalar::Large(number) => Ok(*number as Self),
            Scalar::Float(number) => Ok(*number as Self),
            Scalar::Text(text) => text.trim().parse().map_err(|_| unlike::<Self>(value)),
            Scalar::Flag(_) => Err(unlike::<Self>(value)),
        }
    }
}

impl<'de: 'a, 'a> Readable<'de> for Vec<Cow<'a, str>> {
    const EXPECTED: &'static str = "a list of texts";

    fn read(value: Scalar<'de>) -> Result<Self, String> {
        Err(unlike::<Self>(value))
    }

    fn read_list<A: SeqAccess<'de>>(mut list: A) -> Result<Field<Self>, A::Error> {
        let (mut texts, mut problem) = (Vec::new(), None);
        while let Some(text) = list.next_element::<Field<Cow<'a, str>>>()? {
            match text {
                Field::Stated(text) => texts.push(text),
                Field::Absent => {}
                Field::Useless(reason) => problem = Some(reason),
            }
        }
        Ok(problem.map_or(Field::Stated(texts), Field::Useless))
    }
}

impl<'de, T: Readable<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<T> FieldVisitor<T> {
    fn field<'de, E>(value: Scalar<'de>) -> Result<Field<T>, E>
    where
        T: Readable<'de>,
    {
        Ok(T::read(value).map_or_else(Field::Useless, Field::Stated))
    }

    fn text<'de, E>(text: Cow<'de, str>) -> Result<Field<T>, E>
    where
        T: Readable<'de>,
    {
        if text.trim().is_empty() { Ok(Field::Absent) } else { Self::field(Scalar::Text(text)) }
    }
}

impl<'de, T: Readable<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(T::EXPECTED)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Self::field(Scalar::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Self::field(Scalar::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Self::field(i64::try_from(number).map_or(Scalar::Large(number), Scalar::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Self::field(Scalar::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Self::text(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Self::text(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Self::text(Cow::Owned(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::read_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Useless(unlike::<T>("an object")))
    }
}

/// The longest reason for which a row is rejected, in bytes, or little more: a reason quotes what a source wrote.
pub const MAX_REASON_BYTES: usize = 1_000;

/// Returns a reason without what is too long of it.
pub fn shortened(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        reason.push('…');
    }
    reason
}

/// Why JSON text is not what it should be.
#[derive(Debug)]
pub struct JsonError {
    /// path of the field; empty for the text as a whole
    pub path: String,
    /// what is wrong there
    pub error: serde_json::Error,
}

impl JsonError {
    /// Returns the reason without the position, which counts from the beginning of this text.
    pub fn reason(&self) -> String {
        let text = self.error.to_string();
        shortened(text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned())
    }
}

/// Names the field, if it is one of the row.
impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.path.is_empty() { "" } else { ": " };
        write!(formatter, "{}{separator}{}", shortened(self.path.clone()), self.reason())
    }
}

/// Deserializes JSON text. Half of a surrogate pair, which programs leave when they cut a title within an emoji, is read
/// as U+FFFD.
///
/// # Errors
///
/// When it is not JSON, or not of the right shape.
pub fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8], repaired: &'a mut Vec<u8>) -> Result<T, JsonError> {
    let error = match deserialize(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match error.error.is_syntax() && repair(text, repaired) {
        true => deserialize(repaired),
        false => Err(error),
    }
}

fn deserialize<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        JsonError { path: if path == "." { String::new() } else { path }, error: error.into_inner() }
    })?;
    match deserializer.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(JsonError { path: String::new(), error }),
    }
}

/// Copies JSON text with U+FFFD for each lone half of a surrogate pair, which is as long; false if there is none.
pub fn repair(text: &[u8], copy: &mut Vec<u8>) -> bool {
    let half = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|code| (0xd800..0xe000).contains(code))
    };
    copy.clear();
    copy.extend_from_slice(text);
    let (mut at, mut found) = (0, false);
    while let Some(next) = text[at..].iter().position(|&byte| byte == b'\\') {
        at += next;
        at += match (half(at), half(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..)) => 12,
            (Some(_), _) => {
                copy[at..at + 6].copy_from_slice(b"\\ufffd");
                found = true;
                6
            }
            (None, _) => 2,
        };
        if at >= text.len() {
            break;
        }
    }
    found
}

/// For serde's `deserialize_with`: a field of a line, of any type that it can be read from.
///
/// # Errors
///
/// If it can't be read.
pub fn optional<'de, D: Deserializer<'de>, T: Readable<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    match Field::deserialize(deserializer)? {
        Field::Absent => Ok(None),
        Field::Stated(value) => Ok(Some(value)),
        Field::Useless(reason) => Err(D::Error::custom(reason)),
    }
}

/// The same for a field that its row can't do without.
///
/// # Errors
///
/// If it is empty or can't be read.
pub fn required<'de, D: Deserializer<'de>, T: Readable<'de>>(deserializer: D) -> Result<T, D::Error> {
    optional(deserializer)?.ok_or_else(|| D::Error::custom("must not be empty"))
}

/// The same for an id.
///
/// # Errors
///
/// If it is empty or can't be read.
pub fn required_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    required(deserializer).map(|LineId(id)| id.into_owned())
}

/// The same for a text.
///
/// # Errors
///
/// If it can't be read.
pub fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(optional(deserializer)?.map(|text: Cow<'de, str>| text.into_owned()))
}

/// For serde's `deserialize_with`: a field of a request, which must be a number without a fraction.
///
/// # Errors
///
/// If it is something else, or out of range.
pub fn optional_whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let number: Option<Whole> = Option::deserialize(deserializer)?;
    let number = number.map(|Whole(number)| T::try_from(number).map_err(|_| D::Error::custom("is out of range")));
    number.transpose()
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                i64::try_from(number).map(Whole).map_err(|_| E::custom("is out of range"))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                if number.fract() != 0.0 {
                    return Err(E::invalid_type(serde::de::Unexpected::Float(number), &self));
                }
                Whole::of(number).ok_or_else(|| E::custom("is out of range"))
            }
        }
        deserializer.deserialize_i64(WholeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, T: Readable<'a>>(json: &'a str) -> Field<T> {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn a_value_is_read_whatever_type_it_was_written_as() {
        for json in ["7", "7.0", "\"7\"", "\" 7.0 \""] {
            assert_eq!(read::<Whole>(json), Field::Stated(Whole(7)), "{json}");
        }
        for json in ["true", "\"True\"", "1"] {
            assert_eq!(read::<bool>(json), Field::Stated(true), "{json}");
        }
        for (json, id) in [("3.0", "3"), ("-7", "-7"), ("9007199254740993", "9007199254740993"), ("\"x\"", "x")] {
            assert_eq!(read::<LineId<'_>>(json), Field::Stated(LineId(Cow::Borrowed(id))), "{json}");
        }
        assert_eq!(read::<Cow<'_, str>>("123"), Field::Stated(Cow::Borrowed("123")));
        for json in ["null", "\"\"", "\" \""] {
            assert_eq!(read::<Whole>(json), Field::Absent, "{json}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_useless_and_not_an_error() {
        for (json, reason) in [
            ("1.5", "must be a whole number, not 1.5"),
            ("\"many\"", "must be a whole number, not \"many\""),
            ("[1, {}]", "must be a whole number, not a list"),
            ("{\"a\": [1]}", "must be a whole number, not an object"),
            ("1e20", "is too large"),
            ("18446744073709551615", "is too large"),
        ] {
            assert_eq!(read::<Whole>(json), Field::Useless(reason.to_owned()));
        }
        assert!(matches!(read::<LineId<'_>>("18446744073709551616"), Field::Useless(_)));
        assert!(matches!(read::<Vec<Cow<'_, str>>>("[\"rock\", true]"), Field::Useless(_)));
    }

    #[test]
    fn half_a_surrogate_pair_is_unreadable_and_nothing_around_it_is() {
        for (json, text) in [
            (r#""a \ud83d""#, "a \u{fffd}"),
            (r#""\udc00b""#, "\u{fffd}b"),
            (r#""\ud83d\ud83c\udfb5\\ud83d""#, "\u{fffd}\u{1f3b5}\\ud83d"),
            (r#""\ud83dx\n""#, "\u{fffd}x\n"),
        ] {
            let mut repaired = Vec::new();
            assert_eq!(from_json::<String>(json.as_bytes(), &mut repaired).expect("text"), text, "{json}");
        }
        let mut repaired = Vec::new();
        for json in [r#""\ud8"#, r#""\"#, r#"{"a" "#] {
            assert!(from_json::<String>(json.as_bytes(), &mut repaired).is_err(), "{json}");
        }
    }
}
