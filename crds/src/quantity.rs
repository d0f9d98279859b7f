//! Kubernetes quantities, as far as the schemas here let them be written: `250m`, `1.5`, `512Mi`.

/// How much a quantity is, in billionths of its unit, rounded down; as much as fits where it is more. None for what is no quantity.
pub fn billionths(text: &str) -> Option<u128> {
    let end = text.find(|character: char| character.is_ascii_alphabetic());
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let fraction = format!("{fraction:0<9}");
    let fraction: u128 = fraction.get(..9)?.parse().ok()?;
    let number = whole
        .parse::<u128>()
        .ok()?
        .saturating_mul(1_000_000_000)
        .saturating_add(fraction);
    Some(match suffix {
        "m" => number / 1_000,
        "" => number,
        "k" => number.saturating_mul(1_000),
        "M" => number.saturating_mul(1_000_000),
        "G" => number.saturating_mul(1_000_000_000),
        "T" => number.saturating_mul(1_000_000_000_000),
        "P" => number.saturating_mul(1_000_000_000_000_000),
        "E" => number.saturating_mul(1_000_000_000_000_000_000),
        "Ki" => number.saturating_mul(1 << 10),
        "Mi" => number.saturating_mul(1 << 20),
        "Gi" => number.saturating_mul(1 << 30),
        "Ti" => number.saturating_mul(1 << 40),
        "Pi" => number.saturating_mul(1 << 50),
        "Ei" => number.saturating_mul(1 << 60),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::billionths;

    #[test]
    fn quantities_are_compared_whatever_they_are_written_in() {
        for (less, more) in [
            ("999m", "1"),
            ("0.3", "301m"),
            ("1023Mi", "1Gi"),
            ("1G", "1Gi"),
            ("1000", "1Ki"),
            ("1.5", "1501m"),
        ] {
            assert!(
                billionths(less).unwrap() < billionths(more).unwrap(),
                "{less} < {more}"
            );
        }
        for (one, same) in [
            ("100m", "0.1"),
            ("1.50", "1500m"),
            ("1024Mi", "1Gi"),
            ("1000k", "1M"),
        ] {
            assert_eq!(
                billionths(one).unwrap(),
                billionths(same).unwrap(),
                "{one} = {same}"
            );
        }
        let most = "99999999999999999999999999999999Ei";
        assert_eq!(billionths(most), Some(u128::MAX), "it is not less than others");
        for none in ["", "Mi", "1Zi", "-1", "1.x", "\u{e9}1"] {
            assert_eq!(billionths(none), None, "{none}");
        }
    }
}
