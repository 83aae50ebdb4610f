//! One timer for all waits of a connection, reset as rarely as possible.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

/// A timer that is made when first needed. For a later deadline it is not reset until it fires: most waits end long
/// before that.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

/// What was waited for did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

impl Alarm {
    /// Goes off at a time, which may change while it is waited for.
    pub fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = at.into();
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }

    /// Waits for something until a time.
    ///
    /// # Errors
    /// [`Late`] when it had not come by then.
    pub async fn until<F: Future>(&mut self, at: Instant, awaited: F) -> Result<F::Output, Late> {
        let mut awaited = pin!(awaited);
        poll_fn(|cx| match awaited.as_mut().poll(cx) {
            Poll::Ready(there) => Poll::Ready(Ok(there)),
            Poll::Pending => self.poll(at, cx).map(|()| Err(Late)),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::time::{Instant as Now, pause, sleep};

    use super::*;

    #[tokio::test]
    async fn it_goes_off_when_it_is_to_however_it_was_set_before() {
        pause();
        let mut alarm = Alarm::default();
        for seconds in [3, 1, 5, 1] {
            let (from, wait) = (Now::now(), Duration::from_secs(seconds));
            assert_eq!(alarm.until((from + wait).into(), pending::<()>()).await, Err(Late));
            assert!(from.elapsed() >= wait && from.elapsed() < wait + Duration::from_millis(10));
            let soon = sleep(Duration::from_millis(10));
            assert_eq!(alarm.until((Now::now() + wait).into(), soon).await, Ok(()));
        }
    }
}
