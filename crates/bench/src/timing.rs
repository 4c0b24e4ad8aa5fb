//! Timing on a machine that does other things too.
//!
//! Competitors take turns in short bursts, so that a slow spell hits all of them, and the shortest burst counts: load only ever adds time. The
//! median stands beside it; when the two are far apart, the machine was busy.

use std::time::{Duration, Instant};

/// A burst is at least this long: far above the clock's resolution, far below a scheduler's slice.
const BURST: Duration = Duration::from_micros(700);

/// Seconds of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) least: f64,
    pub(crate) median: f64,
}

/// Times each competitor for about `seconds` altogether, in turns; at least three bursts each.
pub(crate) fn race(seconds: f64, competitors: &mut [Box<dyn FnMut() + '_>]) -> Vec<Timing> {
    let budget = Duration::from_secs_f64(seconds);
    let calls: Vec<u32> = competitors
        .iter_mut()
        .map(|run| {
            run(); // Warms caches and buffers.
            let start = Instant::now();
            run();
            let one = start.elapsed().max(Duration::from_nanos(20));
            (BURST.as_secs_f64() / one.as_secs_f64()).ceil().clamp(1.0, 100_000.0) as u32
        })
        .collect();
    let mut bursts = vec![Vec::new(); competitors.len()];
    let mut spent = vec![Duration::ZERO; competitors.len()];
    while (0..competitors.len()).any(|i| bursts[i].len() < 3 || spent[i] < budget) {
        for (i, run) in competitors.iter_mut().enumerate() {
            if bursts[i].len() >= 3 && spent[i] >= budget {
                continue;
            }
            let start = Instant::now();
            for _ in 0..calls[i] {
                run();
            }
            let time = start.elapsed();
            spent[i] += time;
            bursts[i].push(time.as_secs_f64() / f64::from(calls[i]));
        }
    }
    bursts
        .into_iter()
        .map(|mut times| {
            times.sort_by(f64::total_cmp);
            Timing { least: times[0], median: times[times.len() / 2] }
        })
        .collect()
}
