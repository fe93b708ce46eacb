//! Power as a function of time, and the areas under it.

/// Between two points of a course, s. Between them it is a straight line.
const STEP_S: f64 = 0.01;

/// The power of one device over the whole script, and what has flowed by then. Before and after it nothing flows.
#[derive(Debug, Clone)]
pub(super) struct Course {
    kw: Vec<f64>,
    /// Each way up to here, kWh.
    flowed: Vec<(f64, f64)>,
}

impl Course {
    /// From 0 to `length_s`; it begins and ends with 0.
    pub(super) fn new(length_s: f64, kw: impl Fn(f64) -> f64) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousand steps")]
        let steps = (length_s / STEP_S).ceil() as usize;
        let kw: Vec<f64> = (0..=steps).map(|step| kw(step as f64 * STEP_S)).collect();
        let mut flowed = vec![(0.0, 0.0)];
        for pair in kw.windows(2) {
            let (import, export) = *flowed.last().unwrap_or(&(0.0, 0.0));
            let kwh = f64::midpoint(pair[0], pair[1]) * STEP_S / 3_600.0;
            flowed.push((import + kwh.max(0.0), export + (-kwh).max(0.0)));
        }
        Self { kw, flowed }
    }

    /// Before which point it is, and how far behind the one before.
    fn place(&self, second: f64) -> (usize, f64) {
        let place = (second / STEP_S).clamp(0.0, (self.kw.len() - 2) as f64 + 0.999_999);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let step = place as usize;
        (step, place - step as f64)
    }

    pub(super) fn kw(&self, second: f64) -> f64 {
        let (step, part) = self.place(second);
        self.kw[step] + (self.kw[step + 1] - self.kw[step]) * part
    }

    /// Each way up to then, kWh.
    pub(super) fn flowed(&self, second: f64) -> (f64, f64) {
        let (step, part) = self.place(second);
        let ((import, export), (next_import, next_export)) = (self.flowed[step], self.flowed[step + 1]);
        (import + (next_import - import) * part, export + (next_export - export) * part)
    }

    /// Least and most power in this time.
    pub(super) fn range(&self, from: f64, to: f64) -> (f64, f64) {
        let (first, last) = (self.place(from).0, self.place(to).0 + 1);
        let within = &self.kw[first..=last];
        within.iter().fold((f64::MAX, f64::MIN), |(min, max), kw| (min.min(*kw), max.max(*kw)))
    }
}

/// From 0 to 1 while `part` goes from 0 to 1, without an edge: what is added up of it at regular times is its area.
pub(super) fn smooth(part: f64) -> f64 {
    let part = part.clamp(0.0, 1.0);
    part * part * part * (part * (part * 6.0 - 15.0) + 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flows_is_the_area_each_way_and_nothing_before_and_after() {
        let course = Course::new(20.0, |second| if (5.0..10.0).contains(&second) { 36.0 } else { -18.0 });
        let (import, export) = course.flowed(20.0);
        assert!((import - 0.05).abs() < 1e-4 && (export - 0.075).abs() < 1e-4, "{import} {export}");
        assert_eq!(course.flowed(-3.0), (0.0, 0.0));
        assert_eq!(course.range(6.0, 8.0), (36.0, 36.0));
        assert_eq!((smooth(-1.0), smooth(0.5), smooth(2.0)), (0.0, 0.5, 1.0));
    }
}
