//! Owns the times of a trace: `2017-06-20T02:41:58.176Z`, always UTC, to the microsecond.

use std::fmt::{self, Display};
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Timestamp(pub(crate) i64);

impl Timestamp {
    /// How long after an earlier one it is, in microseconds; 0 if it is none.
    pub(crate) fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0 - earlier.0).unwrap_or(0)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).with_context(|| format!("{text:?} is no time such as 2017-06-20T02:41:58.176Z"))
    }
}

fn parse(text: &str) -> Result<Timestamp> {
    let (date, time) = text.strip_suffix('Z').and_then(|text| text.split_once('T')).context("no T or no Z")?;
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = three_numbers(date, '-')?;
    let [hour, minute, second] = three_numbers(seconds, ':')?;
    ensure!((1..=12).contains(&month) && (1..=31).contains(&day), "no such date");
    ensure!(hour < 24 && minute < 60 && second <= 60 && (1..=9999).contains(&year), "no such time");
    ensure!(!fraction.is_empty() && fraction.len() <= 9, "no such fraction");
    let digits: i64 = fraction.parse().ok().filter(|digits| *digits >= 0).context("a fraction is no number")?;
    let nanos = digits * 10i64.pow(9 - fraction.len() as u32);
    let seconds = days_of(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    Ok(Timestamp(seconds * MICROS_PER_SECOND + nanos / 1000))
}

fn three_numbers(text: &str, separator: char) -> Result<[i64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let [one, two, three] = parts[..] else { anyhow::bail!("three numbers are wanted") };
    let number = |part: &str| -> Result<i64> { Ok(i64::from(part.parse::<u16>()?)) };
    Ok([number(one)?, number(two)?, number(three)?])
}

/// Days from 1970-01-01 to a date. Years begin in March here, so that the odd day of leap years comes last.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(MICROS_PER_SECOND), self.0.rem_euclid(MICROS_PER_SECOND));
        let (days, second) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let (year, month, day) = date_of(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().0
    }

    #[test]
    fn times_are_read_with_any_fraction() {
        assert_eq!(micros("1970-01-01T00:00:00Z"), 0);
        assert_eq!(micros("2017-06-20T02:41:58.176Z"), 1_497_926_518_176_000);
        assert_eq!(micros("2000-02-29T00:00:00.5Z") - micros("2000-02-28T23:59:59.000001Z"), 1_499_999);
        assert_eq!(micros("2001-03-01T00:00:00Z") - micros("2001-02-28T00:00:00Z"), 86_400_000_000);
        for odd in [
            "",
            "2017-06-20",
            "2017-06-20T02:41:58.176",
            "2017-13-20T02:41:58Z",
            "2017-06-20T24:41:58Z",
            "2017-06-20T02:41:58.Z",
            "2017-06-20T02:41Z",
            "17-0x-20T02:41:58Z",
            "2017-06-20T02:41:58.-1Z",
        ] {
            assert!(odd.parse::<Timestamp>().is_err(), "{odd:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(micros in 0i64..253_402_300_800_000_000) {
            prop_assert_eq!(Timestamp(micros).to_string().parse::<Timestamp>().unwrap(), Timestamp(micros));
        }

        #[test]
        fn any_text_is_borne(text in "\\PC{0,40}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
