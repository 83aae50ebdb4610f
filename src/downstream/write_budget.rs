//! The total time that a client may keep answers waiting; reading a byte now and then does not stretch it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::pace::Pace;

/// The time that a client has left to take what is sent to it.
#[derive(Debug)]
pub struct WriteBudget {
    pace: Pace,
    waiting_since: Option<Instant>,
    /// Made when first needed, then set anew.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl WriteBudget {
    /// The time that a client has before it takes anything.
    pub const fn new(most: Duration) -> Self {
        Self { pace: Pace::new(most), waiting_since: None, alarm: None }
    }

    /// Passes on what came of an attempt to send, and ends the attempts when the time is spent. `taken` says how
    /// many bytes have got further.
    ///
    /// # Errors
    /// Those of the attempt, or [`io::ErrorKind::TimedOut`].
    pub fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        sent: Poll<io::Result<T>>,
        taken: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match sent {
            Poll::Pending => {
                let due = *self.waiting_since.get_or_insert_with(Instant::now) + self.pace.left();
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if alarm.deadline() != due {
                    alarm.as_mut().reset(due);
                }
                ready!(alarm.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(sent) => {
                if let Some(since) = self.waiting_since.take() {
                    self.pace.spend(since.elapsed());
                    self.pace.earn(sent.as_ref().map_or(0, taken));
                }
                Poll::Ready(sent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{pause, sleep};

    use super::*;

    /// How many bytes earn a second back.
    const PACE: usize = 4096;

    /// Waits so long before each attempt to send is taken; how long it all took until it was over.
    async fn held_up(
        budget: &mut WriteBudget,
        wait: Duration,
        taken: usize,
        attempts: usize,
    ) -> Option<Duration> {
        let start = Instant::now();
        for _ in 0..attempts {
            let mut taking = Box::pin(sleep(wait));
            let attempt = poll_fn(|cx| {
                let sent = taking.as_mut().poll(cx).map(|()| Ok(()));
                budget.watch(cx, sent, |()| taken)
            });
            if attempt.await.is_err() {
                return Some(start.elapsed());
            }
        }
        None
    }

    #[tokio::test]
    async fn taking_little_does_not_stretch_it_and_taking_enough_does() {
        pause();
        let second = Duration::from_secs(1);
        let most = 10 * second;
        let ended = held_up(&mut WriteBudget::new(most), 60 * second, 0, 1).await.unwrap();
        assert!(ended >= most && ended < most + second, "{ended:?}");
        let ended = held_up(&mut WriteBudget::new(most), second, 1, 100).await.unwrap();
        assert!(ended >= most && ended < most + 2 * second, "{ended:?}");
        let slow = held_up(&mut WriteBudget::new(most), second, PACE / 2, 100).await.unwrap();
        assert!(slow > most && slow < 3 * most, "{slow:?}");
        assert_eq!(held_up(&mut WriteBudget::new(most), second, PACE, 1000).await, None);
    }

    #[tokio::test]
    async fn what_is_earned_is_no_more_than_there_was() {
        pause();
        let (second, mut budget) = (Duration::from_secs(1), WriteBudget::new(Duration::from_secs(10)));
        assert_eq!(held_up(&mut budget, second, 1000 * PACE, 3).await, None);
        let ended = held_up(&mut budget, 60 * second, 0, 1).await.unwrap();
        assert!(ended <= Duration::from_secs(11), "{ended:?}");
    }
}
