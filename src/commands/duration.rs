//! Lengths of time as Go's flags take them: `5s`, `1m30s`, `1.5h`, `-20ms`, `0`.

use std::time::Duration;

use crate::error::{Result, anyhow, ensure};

/// Units and their nanoseconds. Longer names go first where a shorter one is their beginning.
const UNITS: &[(&str, i64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5
    ("μs", 1_000), // U+03BC
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// Nanoseconds; negative ones are for the command to refuse.
pub fn parse(text: &str) -> Result<i64> {
    let invalid = || anyhow!("invalid duration {text:?} (as 500ms, 5s, 1m30s)");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (part, after) = first_part(rest).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    Ok(if negative { -total } else { total })
}

/// The number and unit that a text begins with, and what comes after.
fn first_part(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let (unit, scale) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Each further digit is a tenth of the one before; what is less than a nanosecond is dropped.
    let mut place = *scale;
    let mut nanoseconds = whole.checked_mul(*scale)?;
    for digit in fraction.chars() {
        place /= 10;
        nanoseconds = nanoseconds.checked_add(i64::from(digit.to_digit(10)?) * place)?;
    }
    Some((nanoseconds, &rest[unit.len()..]))
}

/// An interval between two reports.
pub fn interval(nanoseconds: i64) -> Result<Duration> {
    ensure!(nanoseconds > 0, "duration interval must be greater than 0");
    Ok(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_takes_is_taken() {
        for (text, nanoseconds) in [
            ("5s", 5_000_000_000),
            ("1m", 60_000_000_000),
            ("500ms", 500_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1.5s", 1_500_000_000),
            (".25m", 15_000_000_000),
            ("1.s", 1_000_000_000),
            ("10µs", 10_000),
            ("10μs", 10_000),
            ("0", 0),
            ("0s", 0),
            ("+1ns", 1),
            ("-2ms", -2_000_000),
        ] {
            assert_eq!(parse(text).unwrap(), nanoseconds, "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bad in ["", "-", "5", "s", ".s", "5 s", "1d", "1.2.3s", "--1s", "1e3s", "999999999999h", "s5", "٣s"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(interval(0).is_err() && interval(-1).is_err());
        assert_eq!(interval(1).unwrap(), Duration::from_nanos(1));
    }
}
