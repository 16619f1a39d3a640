//! The answers to probes: yes or no, and the reason in words.
//!
//! A worker counts as ready from the end of its start-up until it is told to leave or dies. One
//! whose loop is blocked still does: it has work, and taking the server out of a load balancer
//! because all of it is busy would move the load to the next one.

use crate::status::Health;

/// Whether to send requests here: somebody can take them, and nobody has said stop.
pub(crate) fn readiness(health: Health) -> (bool, String) {
    if health.is_stopping {
        return (false, "shutting down".to_owned());
    }
    (health.ready > 0, count(health))
}

/// Whether the start is over: all workers have been ready at one time. Stays true.
pub(crate) fn startup(health: Health) -> (bool, String) {
    if health.has_been_complete {
        return (true, "started".to_owned());
    }
    if health.is_stopping {
        return (false, "shutting down before all workers were ready".to_owned());
    }
    (false, format!("starting: {}", count(health)))
}

fn count(Health { ready, wanted, .. }: Health) -> String {
    format!("{ready} of {wanted} workers ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(ready: usize, is_stopping: bool, has_been_complete: bool) -> Health {
        Health { ready, wanted: 4, is_stopping, has_been_complete }
    }

    fn owned((is_good, text): (bool, &str)) -> (bool, String) {
        (is_good, text.to_owned())
    }

    #[test]
    fn one_ready_worker_is_enough_until_a_stop() {
        for (given, expected) in [
            (health(0, false, false), (false, "0 of 4 workers ready")),
            (health(1, false, false), (true, "1 of 4 workers ready")),
            (health(4, false, true), (true, "4 of 4 workers ready")),
            (health(0, false, true), (false, "0 of 4 workers ready")),
            (health(4, true, true), (false, "shutting down")),
        ] {
            assert_eq!(readiness(given), owned(expected), "{given:?}");
        }
    }

    #[test]
    fn the_start_is_over_once_all_were_ready_and_stays_over() {
        for (given, expected) in [
            (health(3, false, false), (false, "starting: 3 of 4 workers ready")),
            (health(4, false, true), (true, "started")),
            (health(0, false, true), (true, "started")),
            (health(0, true, true), (true, "started")),
            (health(1, true, false), (false, "shutting down before all workers were ready")),
        ] {
            assert_eq!(startup(given), owned(expected), "{given:?}");
        }
    }
}
