//! Quantities in words, with a unit that keeps them short.

/// A duration in microseconds: `850 us` (with the Greek letter), `1.25 ms`, `3.40 s`.
pub(super) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} \u{b5}s"),
        1_000..1_000_000 => format!("{} ms", digits(us as f64 / 1e3)),
        _ => format!("{} s", digits(us as f64 / 1e6)),
    }
}

/// A duration in nanoseconds.
pub(super) fn nanos(ns: u64) -> String {
    micros(ns / 1000)
}

/// A moment of a run, nanoseconds since its start: seconds with three decimals.
pub(super) fn moment(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}

/// A long duration in seconds: `42 s`, `5 min 3 s`, `2 h 10 min`.
pub(super) fn long(seconds: f64) -> String {
    // Negative and what is no number becomes 0.
    let whole = seconds.round() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// A size: `512 B`, `1.50 MiB`.
pub(super) fn bytes(size: u64) -> String {
    let mut value = size as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{size} B"),
                _ => format!("{} {unit}", digits(value)),
            };
        }
        value /= 1024.0;
    }
    format!("{} TiB", digits(value))
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let plain = number.to_string();
    let mut out = String::new();
    for (at, digit) in plain.char_indices() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            // A narrow space that no line breaks at.
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `1 round`, `2 rounds`.
pub(super) fn plural(number: u64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {one}{s}", count(number))
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_unit_that_keeps_them_short() {
        assert_eq!(micros(850), "850 \u{b5}s");
        assert_eq!(micros(1_250), "1.25 ms");
        assert_eq!(micros(3_400_000), "3.40 s");
        assert_eq!(moment(1_500_000_000), "1.500 s");
        assert_eq!(long(f64::NAN), "0 s");
        assert_eq!(long(303.0), "5 min 3 s");
        assert_eq!(long(7800.0), "2 h 10 min");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(3 << 19), "1.50 MiB");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(999), "999");
        assert_eq!(plural(1, "round"), "1 round");
        assert_eq!(plural(2, "round"), "2 rounds");
    }
}
