//! Runs cases beside each other and hands the findings over in the order of the table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::{Bench, Suite};
use crate::case::{Case, Skip};

/// How a case ended.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// The runtime does what the section asks for.
    Pass,
    /// It does not: what was seen instead.
    Fail(String),
    /// Nothing can be said here: why.
    Skip(String),
}

/// How a case ended, and how long it took.
#[derive(Debug)]
pub struct Finding {
    /// How it ended.
    pub verdict: Verdict,
    /// The wall clock's time.
    pub elapsed: Duration,
}

/// Runs all cases, at most `jobs` at a time, each bounded by `timeout`; `found` is called in the order of the cases.
pub fn run(
    suite: &Suite,
    cases: &[&Case],
    jobs: usize,
    timeout: Duration,
    found: impl FnMut(usize, Finding) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(cases.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { break };
                    let begin = Instant::now();
                    let verdict = verdict((case.run)(&Bench { suite, deadline: begin + timeout }));
                    // The receiver is gone only when the output cannot be written: there is nobody to tell.
                    if sender.send((index, Finding { verdict, elapsed: begin.elapsed() })).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        in_order(receiver.into_iter(), found)
    })
}

fn verdict(result: Result<()>) -> Verdict {
    match result {
        Ok(()) => Verdict::Pass,
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(skip) => Verdict::Skip(skip.to_string()),
            None => Verdict::Fail(format!("{error:#}")),
        },
    }
}

/// Holds back what comes early.
fn in_order<T>(items: impl Iterator<Item = (usize, T)>, mut give: impl FnMut(usize, T) -> Result<()>) -> Result<()> {
    let (mut early, mut due) = (BTreeMap::new(), 0);
    for (index, item) in items {
        early.insert(index, item);
        while let Some(item) = early.remove(&due) {
            give(due, item)?;
            due += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_findings_wait_for_their_turn() {
        let mut seen = Vec::new();
        let items = [(2, 'c'), (0, 'a'), (1, 'b'), (3, 'd')];
        in_order(items.into_iter(), |index, item| {
            seen.push((index, item));
            Ok(())
        })
        .expect("nothing fails");
        assert_eq!(seen, [(0, 'a'), (1, 'b'), (2, 'c'), (3, 'd')]);
    }

    #[test]
    fn a_skip_is_found_below_its_context() {
        use anyhow::{Context, anyhow};
        let skipped = Err(anyhow::Error::from(Skip("no such kernel".into()))).context("while reading");
        assert!(matches!(verdict(skipped), Verdict::Skip(_)));
        assert_eq!(verdict(Err(anyhow!("b").context("a"))), Verdict::Fail("a: b".into()));
        assert_eq!(verdict(Ok(())), Verdict::Pass);
    }
}
