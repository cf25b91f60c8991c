//! What all figures with axes are drawn from: the frame, rules, and the places of ticks.

use super::escape::{number, text};

/// The width of a figure, in the units of its view box.
pub(super) const WIDTH: f64 = 760.0;
/// Room for the values at the left.
pub(super) const LEFT: f64 = 58.0;
/// Room at the right.
pub(super) const RIGHT: f64 = 14.0;

/// Ticks of 1, 2 and 5 of a logarithmic axis, at most.
const LOG_TICKS_MAX: usize = 10;

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
    time_label(10_u64.pow(power.clamp(0, 18) as u32))
}

/// Microseconds that are a multiple of their largest unit, as it stands at an axis.
pub(super) fn time_label(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} \u{b5}s"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// Ticks of a logarithmic axis that holds both, at least 1: 1, 2 and 5 times the powers of ten, or only these where
/// there would be many. At least two.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let sane = |value: f64| match value.is_finite() {
        true => value.clamp(1.0, 1e15),
        false => 1.0,
    };
    let (low, high) = (sane(low), sane(high));
    for steps in [&[1.0, 2.0, 5.0][..], &[1.0]] {
        let all = (0..=16).flat_map(|power| steps.iter().map(move |it| it * 10_f64.powi(power)));
        let all: Vec<f64> = all.collect();
        let first = all.iter().rposition(|it| *it <= low * 1.0001).unwrap_or(0);
        let last = all.iter().position(|it| *it >= high * 0.9999);
        let last = last.unwrap_or(all.len() - 1).max(first + 1);
        if last - first < LOG_TICKS_MAX || steps.len() == 1 {
            return all[first..=last].to_vec();
        }
    }
    vec![1.0, 10.0]
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

    #[test]
    fn a_logarithmic_axis_holds_both_ends_and_has_few_ticks() {
        assert_eq!(log_ticks(91.0, 480.0), [50.0, 100.0, 200.0, 500.0]);
        assert_eq!(log_ticks(100.0, 100.0), [100.0, 200.0]);
        assert_eq!(log_ticks(f64::INFINITY, 0.0), [1.0, 2.0]);
        for (low, high) in [(1.0, 1e9), (70.0, 120e6), (3.0, 1e15), (0.0, f64::NAN)] {
            let all = log_ticks(low, high);
            assert!(all[0] <= low.max(1.0), "{all:?}");
            assert!((2..=17).contains(&all.len()), "{low} {high}: {all:?}");
            assert!(high.is_nan() || *all.last().unwrap() >= high, "{all:?}");
        }
        assert_eq!(time_label(50_000), "50 ms");
        assert_eq!(time_label(2_000_000), "2 s");
        assert_eq!(power_of_ten(2), "100 \u{b5}s");
    }
}
