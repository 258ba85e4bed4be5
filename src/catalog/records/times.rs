//! Times as sources write them: one conversion for files and requests.
//!
//! Whatever comes out lies in the years 1 to 9999 in UTC, which PostgreSQL can store and RFC 3339 can write, in whole
//! microseconds.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// What a time may look like.
pub const EXPECTED: &str = "a time, such as 2023-11-14T22:13:20Z or seconds since 1970";
/// Why a time is rejected that no column can hold.
const OUT_OF_YEARS: &str = "must be in the years 1 to 9999";
/// Numbers from here on are milliseconds: as seconds they would be after the year 5138.
const LEAST_MILLISECONDS: f64 = 1e11;
/// Numbers from here on are microseconds.
const LEAST_MICROSECONDS: f64 = 1e14;

/// Returns a time in UTC as the catalog can hold it, in whole microseconds so that it equals itself once it is stored.
///
/// # Errors
///
/// If it is not in the years 1 to 9999.
pub fn in_years(time: OffsetDateTime) -> Result<OffsetDateTime, String> {
    let time = time.checked_to_offset(UtcOffset::UTC).filter(|time| (1..=9_999).contains(&time.year()));
    let time = time.ok_or_else(|| OUT_OF_YEARS.to_owned())?;
    Ok(time.replace_nanosecond(time.nanosecond() / 1_000 * 1_000).unwrap_or(time))
}

/// Converts a number of seconds since 1970. Numbers too large for that are milliseconds, or microseconds.
///
/// # Errors
///
/// If it is not in the years 1 to 9999.
pub fn from_number(number: f64) -> Result<OffsetDateTime, String> {
    let seconds = match number {
        number if number >= LEAST_MICROSECONDS => number / 1e6,
        number if number >= LEAST_MILLISECONDS => number / 1e3,
        number => number,
    };
    // The years 1 to 9999 are less than 10^12 seconds, so that the cast is exact to the microsecond.
    if seconds.is_nan() || seconds.abs() >= 1e12 {
        return Err(OUT_OF_YEARS.to_owned());
    }
    let time = OffsetDateTime::from_unix_timestamp_nanos((seconds * 1e6).round() as i128 * 1_000);
    in_years(time.map_err(|_| OUT_OF_YEARS.to_owned())?)
}

/// Converts a text: a date, a date with a time, or a number. Without a zone it is in UTC.
///
/// # Errors
///
/// If it is none of these, or not in the years 1 to 9999.
pub fn from_text(text: &str) -> Result<OffsetDateTime, String> {
    match text.trim().parse::<f64>() {
        Ok(number) => from_number(number),
        Err(_) => from_date(text),
    }
}

/// Converts a date, or a date with a time: RFC 3339, and the forms that databases and spreadsheets write.
///
/// # Errors
///
/// If it is neither, or not in the years 1 to 9999.
pub fn from_date(text: &str) -> Result<OffsetDateTime, String> {
    let refused = || {
        let shown: String = text.chars().take(40).collect();
        format!("must be {EXPECTED}, not {shown:?}")
    };
    let mut rest = Rest(text.trim().as_bytes());
    let (date, time, offset) = rest.date_time().filter(|_| rest.0.is_empty()).ok_or_else(refused)?;
    let time = PrimitiveDateTime::new(date, time).assume_offset(offset);
    in_years(time)
}

/// What is not read yet of a text.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn date_time(&mut self) -> Option<(Date, Time, UtcOffset)> {
        let year = self.digits(4)?;
        self.one_of(b"-")?;
        let month = Month::try_from(u8::try_from(self.digits(2)?).ok()?).ok()?;
        self.one_of(b"-")?;
        let date =
            Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(self.digits(2)?).ok()?).ok()?;
        if self.0.is_empty() {
            return Some((date, Time::MIDNIGHT, UtcOffset::UTC));
        }
        self.one_of(b"Tt ")?;
        let hour = self.digits(2)?;
        self.one_of(b":")?;
        let minute = self.digits(2)?;
        let (mut second, mut micros) = (0, 0);
        if self.one_of(b":").is_some() {
            second = self.digits(2)?;
            if self.one_of(b".,").is_some() {
                let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let digits = self.0.get(..length).filter(|digits| !digits.is_empty())?;
                self.0 = &self.0[length..];
                let digits = digits.iter().chain(std::iter::repeat(&b'0')).take(6);
                micros = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
            }
        }
        if second == 60 {
            (second, micros) = (59, 999_999); // a leap second
        }
        let byte = |number: u32| u8::try_from(number).ok();
        let time = Time::from_hms_micro(byte(hour)?, byte(minute)?, byte(second)?, micros).ok()?;
        let zone = self.0.trim_ascii_start();
        let offset = match zone {
            b"" | b"Z" | b"z" | b"UTC" | b"GMT" => UtcOffset::UTC,
            [sign @ (b'+' | b'-'), hours_and_minutes @ ..] => {
                let mut rest = Rest(hours_and_minutes);
                let hours = rest.digits(2)?;
                let minutes = match rest.0.is_empty() {
                    true => 0,
                    false => {
                        let _ = rest.one_of(b":");
                        rest.digits(2)?
                    }
                };
                if !rest.0.is_empty() || hours > 23 || minutes > 59 {
                    return None;
                }
                let seconds = i32::try_from(hours * 3_600 + minutes * 60).ok()?;
                UtcOffset::from_whole_seconds(if *sign == b'-' { -seconds } else { seconds }).ok()?
            }
            _ => return None,
        };
        self.0 = &[];
        Some((date, time, offset))
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| self.0 = rest)?;
        Some(*first)
    }

    fn digits(&mut self, length: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
    }
}

/// For serde's `with`: an optional time as a text. One that can't be written is null.
pub mod optional {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    /// Writes RFC 3339.
    pub fn serialize<S: Serializer>(time: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
        // The catalog may have times from before they were checked.
        let text = time.and_then(|time| super::in_years(time).ok()).and_then(|time| time.format(&Rfc3339).ok());
        text.serialize(serializer)
    }

    /// Reads a date, or a date with a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| super::from_date(&text)).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn the_usual_forms_of_one_time_are_one_time() {
        let expected = datetime!(2023-11-14 22:13:20 UTC);
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14 22:13:20",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20+0000",
            "2023-11-14 22:13:20+00:00",
            "2023-11-14 22:13:20+00",
            "2023-11-14 22:13:20 UTC",
            "2023-11-14 22:13:20.000",
            "2023-11-15t00:13:20.0000000001+02:00",
            " 1700000000 ",
            "1700000000.0",
            "1.7e9",
            "1700000000000",
            "1700000000000000",
        ] {
            assert_eq!(from_text(text), Ok(expected), "{text}");
        }
        assert_eq!(from_text("2023-11-14"), Ok(datetime!(2023-11-14 00:00 UTC)));
        assert_eq!(from_text("2023-11-14 22:13"), Ok(datetime!(2023-11-14 22:13 UTC)));
        assert_eq!(from_text("2023-11-14T22:13:20.1234567Z"), Ok(datetime!(2023-11-14 22:13:20.123456 UTC)));
        assert_eq!(from_text("-1"), Ok(datetime!(1969-12-31 23:59:59 UTC)));
        assert_eq!(from_text("2016-12-31T23:59:60Z"), Ok(datetime!(2016-12-31 23:59:59.999999 UTC)));
    }

    #[test]
    fn a_time_outside_of_the_years_1_to_9999_is_refused_however_it_is_written() {
        for text in [
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+00:01",
            "0000-06-01",
            "-90000000000",
            "-213000000000",
            "9223372036854775807",
            "1e300",
            "inf",
            "NaN",
        ] {
            assert_eq!(from_text(text), Err(OUT_OF_YEARS.to_owned()), "{text}");
        }
        for text in
            ["", "soon", "2023-13-01", "2023-02-30", "2023-11-14T", "2023-11-14T25:00", "2023-11-14 22:13:20+99:00"]
        {
            let reason = from_text(text).expect_err("no time");
            assert!(reason.starts_with("must be a time"), "{text}: {reason}");
        }
    }
}
