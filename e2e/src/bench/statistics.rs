//! Numbers about numbers: pure.

/// Measurements of one thing, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn minimum(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub fn maximum(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "there are far fewer than 2^52 measurements"
    )]
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        let at = |index: usize| self.0.get(index).copied().unwrap_or(f64::NAN);
        if self.0.len().is_multiple_of(2) && middle > 0 {
            f64::midpoint(at(middle - 1), at(middle))
        } else {
            at(middle)
        }
    }

    /// The smallest measurement that at least `percent` of a hundred do not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// "min 1.00, median 2.00, mean 2.00, max 3.00 s".
    pub fn spread(&self, unit: &str) -> String {
        format!(
            "min {:.2}, median {:.2}, mean {:.2}, max {:.2} {unit}",
            self.minimum(),
            self.median(),
            self.mean(),
            self.maximum()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn the_spread_of_a_few_numbers() {
        let sample = Sample::new(vec![3.0, 1.0, 2.0, 6.0]);
        assert_eq!(sample.spread("s"), "min 1.00, median 2.50, mean 3.00, max 6.00 s");
        assert!((Sample::new(vec![5.0, 1.0, 2.0]).median() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_are_measurements() {
        let sample = Sample::new((1..=200).map(f64::from).collect());
        assert!((sample.percentile(50) - 100.0).abs() < 1e-9);
        assert!((sample.percentile(99) - 198.0).abs() < 1e-9);
        assert!((Sample::new(vec![7.0]).percentile(99) - 7.0).abs() < 1e-9);
        assert!(Sample::default().percentile(99).is_nan());
    }
}
