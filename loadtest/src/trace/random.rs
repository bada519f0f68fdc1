//! Owns the chances of a generated trace: the same seed makes the same trace, on every machine.

use crate::body::splitmix64;

/// A seeded source of chances.
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn number(&mut self) -> u64 {
        splitmix64(&mut self.state)
    }

    /// At least 0 and below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        // 53 bits are what an f64 holds.
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number of a range, both ends in it.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.number() % (most - least + 1)
    }

    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// Of an exponential distribution with this mean: the time to the next of things that come independently.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.fraction()).ln()
    }

    /// Of the standard normal distribution (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.fraction()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}

/// Ranks from 0, of which rank r is chosen in proportion to 1/(r+1)^exponent.
#[derive(Debug, Clone)]
pub(super) struct Zipf {
    /// Up to and with each rank; the last is the sum of all weights.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// At least one rank.
    pub(super) fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=ranks.max(1)).map(|rank| (rank as f64).powf(-exponent));
        let cumulative = weights.map(|weight| {
            sum += weight;
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    pub(super) fn choose(&self, random: &mut Random) -> usize {
        let wanted = random.fraction() * self.total();
        self.cumulative.partition_point(|sum| *sum <= wanted).min(self.cumulative.len() - 1)
    }

    /// How probable a rank is.
    pub(super) fn probability(&self, rank: usize) -> f64 {
        let before = if rank == 0 { 0.0 } else { self.cumulative[rank - 1] };
        (self.cumulative[rank] - before) / self.total()
    }

    fn total(&self) -> f64 {
        self.cumulative[self.cumulative.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_their_weight() {
        let (zipf, mut random, mut counts) = (Zipf::new(100, 1.0), Random::new(1), [0u32; 100]);
        for _ in 0..100_000 {
            counts[zipf.choose(&mut random)] += 1;
        }
        for rank in [0, 1, 9, 99] {
            let expected = 100_000.0 * zipf.probability(rank);
            assert!(
                (f64::from(counts[rank]) - expected).abs() < 5.0 * expected.sqrt(),
                "rank {rank}: {}",
                counts[rank]
            );
        }
        assert!((zipf.probability(0) / zipf.probability(9) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn means_are_as_they_should_be() {
        let mut random = Random::new(2);
        let mean = |of: &mut dyn FnMut() -> f64| (0..100_000).map(|_| of()).sum::<f64>() / 100_000.0;
        assert!((mean(&mut || random.exponential(3.0)) - 3.0).abs() < 0.05);
        assert!(mean(&mut || random.normal()).abs() < 0.02);
        let mut random = Random::new(2);
        assert!((mean(&mut || random.normal().powi(2)) - 1.0).abs() < 0.03);
    }
}
