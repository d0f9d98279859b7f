//! Properties of hostile values. `HOSTILE_CASES=20000` looks at as many of each; the values are the same each time.

use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use stagecraft_api::error::truncate;

/// Longest time of one case. One that costs more would keep the operator from all other Workflows.
pub const MOMENT: Duration = Duration::from_secs(5);

/// Holds the property of as many values as are wanted. The values are the same each time.
pub fn holds<S: Strategy>(usual: u32, strategy: &S, property: impl Fn(S::Value)) {
    let wanted = std::env::var("HOSTILE_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    let config = Config {
        cases: wanted.unwrap_or(usual),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(strategy, |value| {
        within_a_moment(|| property(value)).map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("{}", truncate(&error.to_string(), 4_000));
    }
}

/// Does it, unless it takes too long.
pub fn within_a_moment(work: impl FnOnce()) -> Result<(), String> {
    let begun = Instant::now();
    work();
    let took = begun.elapsed();
    if took > MOMENT {
        return Err(format!("it took {took:?}"));
    }
    Ok(())
}
