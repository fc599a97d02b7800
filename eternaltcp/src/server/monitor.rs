//! Looking at a server while it runs.

use std::sync::Arc;

use eternaltcp_proto::Stats;

use super::Context;

/// What a server shows of itself; cheap to clone.
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Context>);

impl Monitor {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    /// What each tunnel did so far, attached or not.
    pub async fn stats(&self) -> Vec<Stats> {
        let mut all = Vec::new();
        for handle in self.0.registry.handles() {
            all.extend(handle.stats().await);
        }
        all
    }
}
