//! What all figures with axes are drawn from: the frame, rules, and the places of ticks.

use super::escape::{number, text};

/// The width of a figure, in the units of its view box.
pub(super) const WIDTH: f64 = 760.0;
/// Room for the values at the left.
pub(super) const LEFT: f64 = 58.0;
/// Room at the right.
pub(super) const RIGHT: f64 = 14.0;

/// A whole SVG with its name and its description, for those who do not see it.
pub(super) fn svg(
    (class, id): (&str, &str),
    (width, height): (f64, f64),
    (title, description): (&str, &str),
    inner: &str,
) -> String {
    format!(
        "<svg class=\"{class}\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{inner}</svg>",
        number(width),
        number(height),
        text(title),
        text(description),
    )
}

/// A horizontal line with its value at the left.
pub(super) fn rule(y: f64, label: &str) -> String {
    format!(
        "<path class=\"rule\" d=\"M{} {y}H{}\"/><text class=\"tick end\" x=\"{}\" y=\"{}\">{}</text>",
        number(LEFT),
        number(WIDTH - RIGHT),
        number(LEFT - 6.0),
        number(y + 4.0),
        text(label),
        y = number(y),
    )
}

/// From 0 up to `most` or a little more, in steps of 1, 2 or 5 times a power of ten; at most eight of them.
pub(super) fn ticks(most: f64) -> Vec<f64> {
    if !most.is_finite() || most <= 0.0 {
        return vec![0.0, 1.0];
    }
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|it| it * power)
        .into_iter()
        .find(|step| most / step <= 6.0)
        .unwrap_or(power * 10.0);
    let count = (most / step).ceil() as u32;
    (0..=count).map(|at| f64::from(at) * step).collect()
}

/// `10^power` microseconds.
pub(super) fn power_of_ten(power: i32) -> String {
    match power {
        ..3 => format!("{} \u{b5}s", 10_u64.pow(power.max(0) as u32)),
        3..6 => format!("{} ms", 10_u64.pow(power as u32 - 3)),
        _ => format!("{} s", 10_u64.pow((power as u32 - 6).min(12))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_reach_over_the_most_and_are_few() {
        assert_eq!(ticks(0.0), [0.0, 1.0]);
        assert_eq!(ticks(f64::NAN), [0.0, 1.0]);
        for most in [1e-9, 0.3, 1.0, 7.0, 59.0, 100.0, 123_456.0] {
            let all = ticks(most);
            let last = all.last().copied().unwrap();
            assert!(
                last >= most * 0.999 && last <= most * 2.1,
                "{most}: {all:?}"
            );
            assert!(all.len() <= 8, "{most}: {all:?}");
        }
    }
}
