//! Which ready stages may start.

use crate::settings::Settings;

/// How much of the limits is in use by stages that run, those of this Workflow included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub running_stages: usize,
}

/// Why a ready stage does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub reason: String,
}

/// Splits the ready stages into those that start now and, if there are others, what holds them back.
pub fn admit<'a>(ready: &[&'a str], usage: Usage, settings: &Settings) -> (Vec<&'a str>, Option<Held>) {
    let Some(limit) = settings.max_running_stages else {
        return (ready.to_vec(), None);
    };
    let free = limit.saturating_sub(usage.running_stages);
    let picks: Vec<&str> = ready.iter().take(free).copied().collect();
    let held = (picks.len() < ready.len()).then(|| Held {
        reason: format!("{limit} stages run at once at the most (chart value operator.maxRunningStages)"),
    });
    (picks, held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_everything_starts() {
        let usage = Usage {
            running_stages: 10_000,
        };
        assert_eq!(
            admit(&["a", "b"], usage, &Settings::default()),
            (vec!["a", "b"], None)
        );
    }

    #[test]
    fn a_limit_is_kept_and_named() {
        let settings = Settings {
            max_running_stages: Some(3),
            ..Settings::default()
        };
        let (picks, held) = admit(&["a", "b"], Usage { running_stages: 2 }, &settings);
        assert_eq!(picks, vec!["a"]);
        assert!(held.unwrap().reason.contains("operator.maxRunningStages"));
        let (picks, _) = admit(&["a"], Usage { running_stages: 7 }, &settings);
        assert!(picks.is_empty());
    }
}
