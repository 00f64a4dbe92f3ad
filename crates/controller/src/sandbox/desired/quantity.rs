//! Quantities of Kubernetes, in the forms that the CRD's schema accepts.

/// The quantity in thousandths: `500m` is 500, `1Ki` is 1,024,000. `None` for a text that the
/// schema does not accept.
pub fn milli(text: &str) -> Option<u128> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale: u128 = match &text[digits.len()..] {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 1000_u128.pow(2),
        "G" => 1000 * 1000_u128.pow(3),
        "T" => 1000 * 1000_u128.pow(4),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = &fraction[..fraction.len().min(9)];
    let whole: u128 = whole.parse().ok()?;
    let mut amount = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let part: u128 = fraction.parse().ok()?;
        amount += part * scale / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    }
    Some(amount)
}

/// True if `a` is more than `b`. False if one of them is malformed.
pub fn exceeds(a: &str, b: &str) -> bool {
    matches!((milli(a), milli(b)), (Some(a), Some(b)) if a > b)
}

/// The sum of the quantities in whole units, rounded up. Malformed ones count as zero.
pub fn sum(amounts: &[&str]) -> String {
    let total: u128 = amounts.iter().filter_map(|text| milli(text)).sum();
    total.div_ceil(1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_compare_across_their_units() {
        assert_eq!(milli("500m"), Some(500));
        assert_eq!(milli("1.5Gi"), Some(1_610_612_736_000));
        assert!(exceeds("1Gi", "1G") && !exceeds("1024Mi", "1Gi") && exceeds("2", "1500m"));
        assert!(!exceeds("x", "1") && milli("1Pi").is_none() && milli("").is_none());
        assert_eq!(sum(&["1Ki", "1k"]), "2024");
    }
}
