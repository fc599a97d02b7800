//! The start of a client: its tunnels, and the task that moves it to another server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::dial::Heritage;
use super::event::ClientEvent;
use super::listening::AttendedListener;
use super::mover::Mover;
use super::start::{RestoredClient, StartError, TunnelOrigin, start_tunnel};
use super::succession::Succession;
use super::{Client, ClientConfig};
use crate::recovery::KeptDrain;

/// Time for a program to ask again for listeners at the server.
const ASKED_FOR: Duration = Duration::from_secs(10);

impl Client {
    /// Starts a client with the tunnels of an earlier process, or with a new one.
    pub(super) fn begin(
        config: ClientConfig,
        restored: Vec<RestoredClient>,
        drain: Option<KeptDrain>,
    ) -> Result<Self, StartError> {
        let (heritage, label) = (Heritage::new(&config), config.label.clone());
        let mut origins: Vec<_> =
            restored.into_iter().map(|it| TunnelOrigin::Restored(Box::new(it))).collect();
        let present = origins.pop().unwrap_or(TunnelOrigin::First);
        let present = start_tunnel(config.clone(), present, &heritage, drain)?;
        let mut tasks = vec![(present.access.generation, present.task)];
        let (mut ending, mut unasked) = (Vec::new(), Vec::new());
        for origin in origins {
            let left = start_tunnel(config.clone(), origin, &heritage, drain)?;
            left.access.handle.try_tell(ClientEvent::Succeeded);
            tasks.push((left.access.generation, left.task));
            // The present tunnel has these listeners, or requests them first.
            unasked.extend(left.attended);
            ending.push(left.access);
        }
        let (alive, over) = watch::channel(());
        let access = present.access.clone();
        let (succession, users) = Succession::new(access, ending, drain.is_some(), over);
        let succession = Arc::new(succession);
        let mover = Mover::new(Arc::clone(&succession), users, config, heritage, tasks);
        let run = async move {
            let _alive = alive;
            mover.run().await
        };
        attend(unasked);
        Ok(Self {
            succession,
            label,
            span: present.access.span,
            attended: attend(present.attended),
            is_continued: present.is_continued,
            task: tokio::spawn(run),
            end: None,
        })
    }
}

/// Keeps the listeners at the server until the program has had time to ask for them again.
fn attend(listeners: Vec<AttendedListener>) -> Arc<Mutex<Vec<AttendedListener>>> {
    let is_needed = !listeners.is_empty();
    let attended = Arc::new(Mutex::new(listeners));
    if is_needed {
        let attended = Arc::clone(&attended);
        tokio::spawn(async move {
            sleep(ASKED_FOR).await;
            attended.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
    }
    attended
}
