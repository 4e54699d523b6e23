//! Log-linear histogram: 64 buckets per power of two, so a quantile is at most 1.6 % too low.

const SUB: usize = 64;

pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; SUB * SUB], count: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
    }

    /// The value below which the share `q` of all values lies; 0 without values.
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = ((self.count as f64) * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|n| {
            seen += n;
            seen >= wanted
        });
        at.map_or(0, lowest)
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros() as usize;
    (exponent - 5) * SUB + (value >> (exponent - 6)) as usize % SUB
}

fn lowest(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    ((SUB + bucket % SUB) as u64) << (bucket / SUB - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=100_000).for_each(|value| histogram.add(value));
        for (q, exact) in [(0.00001, 1.0), (0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = histogram.quantile(q) as f64;
            assert!(found <= exact && found > exact * 0.98, "{q}: {found}");
        }
    }

    #[test]
    fn every_value_has_a_bucket() {
        for value in [0, 1, 63, 64, 127, 128, 1 << 40, u64::MAX] {
            let low = lowest(bucket(value));
            assert!(low <= value && value - low <= value / 64, "{value} {low}");
        }
    }
}
