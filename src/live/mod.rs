//! The newest of everything, for people and programs on the box.
//!
//! In: each window of the moment, as the pipeline ends it, before the journal has it. Out: to each who listens, the same
//! in its order. Today it has the depot's part of a window ([`LiveWindow`]).
//!
//! - Nobody is waited for: of the windows the newest [`WINDOWS_MAX`] are held, and who is further behind loses the oldest and is told how
//!   many ([`News::Missed`]). Without a listener nothing is made.
//! - A window is told once, whether or not the journal keeps it: what is told here is of the moment, and no record.
//!
//! Nothing here survives a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::measure::{ClockTrust, SiteRollup, Utc, Window};

/// Windows that a listener may be behind: a minute of windows of 250 ms, of some hundred bytes each, once for all listeners.
pub const WINDOWS_MAX: usize = 256;
/// The version of [`LiveWindow`]'s form: fields are added without a new one.
const VERSION: u32 = 1;

/// What the pipeline tells, and whoever listens hears.
#[derive(Debug)]
pub struct Live {
    windows: broadcast::Sender<Arc<LiveWindow>>,
}

/// A window of the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveWindow {
    /// Of this form.
    pub version: u32,
    /// Its end, ns since 1970.
    pub time_ns: Utc,
    /// How far that can be believed.
    pub clock: ClockTrust,
    /// Its length, ms.
    pub length_ms: u64,
    /// What it knows of the depot; `None`: nothing.
    pub site: Option<SiteRollup>,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The next window.
    Window(Arc<LiveWindow>),
    /// So many were lost: the listener was too slow.
    Missed(u64),
    /// There will be no more.
    Over,
}

/// One who listens.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Arc<LiveWindow>>);

impl Default for Live {
    fn default() -> Self {
        Self { windows: broadcast::channel(WINDOWS_MAX).0 }
    }
}

impl Live {
    /// Tells a window that has just ended. Never waits.
    pub fn tell(&self, window: &Window) {
        if self.windows.receiver_count() == 0 {
            return;
        }
        let told = LiveWindow {
            version: VERSION,
            time_ns: window.end.utc,
            clock: window.end.trust,
            length_ms: u64::try_from(window.length.as_millis()).unwrap_or(u64::MAX),
            site: window.site.as_deref().cloned(),
        };
        // The last listener may have gone just now.
        let _ = self.windows.send(Arc::new(told));
    }

    /// Hears all windows from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.windows.subscribe())
    }
}

impl Listener {
    /// The next that is told. Cancel-safe.
    pub async fn next(&mut self) -> News {
        match self.0.recv().await {
            Ok(window) => News::Window(window),
            Err(RecvError::Lagged(windows)) => News::Missed(windows),
            Err(RecvError::Closed) => News::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::{BootId, Mono, Stamp};

    fn window(n: i64) -> Window {
        let end = Stamp { mono: Mono(1), utc: Utc(n), trust: ClockTrust::Synced };
        Window::empty(BootId([1; 16]), end, Duration::from_millis(250))
    }

    #[tokio::test]
    async fn who_is_too_slow_loses_the_oldest_and_is_told_how_many() {
        let live = Live::default();
        live.tell(&window(0));
        let mut listener = live.listen();
        let count = i64::try_from(WINDOWS_MAX).expect("small");
        (1..=count + 3).for_each(|n| live.tell(&window(n)));
        assert_eq!(listener.next().await, News::Missed(3));
        for n in 4..=count + 3 {
            let News::Window(told) = listener.next().await else { panic!("window {n}") };
            assert_eq!((told.time_ns, told.length_ms, told.version), (Utc(n), 250, 1));
        }
        drop(live);
        assert_eq!(listener.next().await, News::Over);
    }
}
