//! Evidence in few words.

use stagecraft_core::observation::{
    AttemptEvidence, ContainerEnd, JobEvidence, PodEvidence, PodPhase, ResultEvidence,
};

use crate::fixture::at;

/// The Job is there and nothing is wrong; no Pod is seen.
pub fn present() -> AttemptEvidence {
    AttemptEvidence {
        job: JobEvidence::Present {
            failure: None,
            complete: false,
            deleting: false,
            trouble: None,
        },
        pod: None,
        result: ResultEvidence::Unknown,
        live: false,
    }
}

pub fn missing(seen_before: bool) -> AttemptEvidence {
    AttemptEvidence {
        job: JobEvidence::Missing { seen_before },
        ..present()
    }
}

pub fn deleting() -> AttemptEvidence {
    AttemptEvidence {
        job: JobEvidence::Present {
            failure: None,
            complete: false,
            deleting: true,
            trouble: None,
        },
        ..present()
    }
}

/// The same evidence, read live, while the gateway has no result.
pub fn live(evidence: AttemptEvidence) -> AttemptEvidence {
    AttemptEvidence {
        result: ResultEvidence::None,
        live: true,
        ..evidence
    }
}

pub fn with_pod(evidence: AttemptEvidence, pod: PodEvidence) -> AttemptEvidence {
    AttemptEvidence {
        pod: Some(pod),
        ..evidence
    }
}

pub fn pod(phase: PodPhase) -> PodEvidence {
    PodEvidence {
        name: "flow-a-1-x".to_owned(),
        phase,
        deleting_since: None,
        node_lost_since: None,
        reason: None,
        trouble: None,
        agent_end: None,
    }
}

/// A Pod that ended because its agent's container did.
pub fn ended(exit_code: i32, reason: &str) -> PodEvidence {
    PodEvidence {
        agent_end: Some(ContainerEnd {
            exit_code,
            reason: reason.to_owned(),
            message: "from the runtime".to_owned(),
        }),
        ..pod(PodPhase::Failed)
    }
}

pub fn job_failed() -> AttemptEvidence {
    AttemptEvidence {
        job: JobEvidence::Present {
            failure: Some("BackoffLimitExceeded: Job has reached the specified backoff limit".into()),
            complete: false,
            deleting: false,
            trouble: None,
        },
        ..present()
    }
}

pub fn job_complete() -> AttemptEvidence {
    AttemptEvidence {
        job: JobEvidence::Present {
            failure: None,
            complete: true,
            deleting: false,
            trouble: None,
        },
        ..present()
    }
}

pub fn job_without_pod(trouble: &str) -> AttemptEvidence {
    AttemptEvidence {
        job: JobEvidence::Present {
            failure: None,
            complete: false,
            deleting: false,
            trouble: Some(trouble.into()),
        },
        ..present()
    }
}

pub fn leaving(since: u64) -> PodEvidence {
    PodEvidence {
        deleting_since: Some(at(since)),
        ..pod(PodPhase::Running)
    }
}

pub fn on_a_lost_node(since: u64) -> PodEvidence {
    PodEvidence {
        node_lost_since: Some(at(since)),
        ..pod(PodPhase::Running)
    }
}

pub fn ended_by_kubernetes(reason: &str) -> PodEvidence {
    PodEvidence {
        reason: Some(reason.into()),
        ..pod(PodPhase::Failed)
    }
}
