use std::sync::Arc;

use stagecraft_api::Moment;

/// Tells the time of day. How long something takes is measured by tokio's clock instead.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::new(Moment::now)
    }

    pub fn new(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub fn now(&self) -> Moment {
        (self.0)()
    }
}
