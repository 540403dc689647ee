//! Sizes as the status shows them: `12 B`, `1.500 MiB`.

/// Formats bytes the way status fields do: whole bytes up to 1 KiB, else three decimals of the largest unit.
#[must_use]
pub fn format(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, unit) in UNITS {
        if bytes > unit {
            let whole = bytes / unit;
            let thousandths = u128::from(bytes % unit) * 1000 / u128::from(unit);
            return format!("{whole}.{thousandths:03} {name}");
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    #[test]
    fn formats_like_the_status() {
        assert_eq!(super::format(0), "0 B");
        assert_eq!(super::format(1024), "1024 B");
        assert_eq!(super::format(1536), "1.500 KiB");
        assert_eq!(super::format(3 << 30), "3.000 GiB");
    }
}
