//! A schedule as the Perfetto UI shows it: a track a CPU, a track a slot (Chrome's trace events).

use serde_json::{Value, json};

use super::timeline::{Event, Names, Timeline, What, output_of};

/// Process numbers under which the UI groups tracks.
const CPUS: u32 = 1;
const SLOTS: u32 = 2;
const TLBS: u32 = 3;

/// The whole as JSON. Times are the guest's, in microseconds from the first event; every event has
/// its number in the order in which they happened.
pub fn perfetto(timeline: &Timeline, title: &str) -> Value {
    let names = Names::of(timeline);
    let mut events = tracks(timeline, &names);
    let begin = timeline.events.first().map_or(0, |event| event.at);
    let times: Vec<u64> = timeline
        .events
        .iter()
        .enumerate()
        // Without the guest's clock, events are a microsecond apart.
        .map(|(number, event)| match event.at {
            0 => number as u64 * 1000,
            at => at.saturating_sub(begin),
        })
        .collect();
    let end = times.last().copied().unwrap_or(0) + 1000;
    for (number, event) in timeline.events.iter().enumerate() {
        events.extend(of_cpu(timeline, &names, number, &times, end));
        events.extend(of_slots(timeline, &names, number, event, &times, end));
    }
    json!({
        "displayTimeUnit": "ns",
        "otherData": { "title": title, "events": timeline.events.len(), "lost": timeline.lost },
        "traceEvents": events,
    })
}

/// Names of the tracks.
fn tracks(timeline: &Timeline, names: &Names<'_>) -> Vec<Value> {
    let name = |process: u32, track: Option<usize>, text: &str| match track {
        None => {
            json!({ "ph": "M", "name": "process_name", "pid": process, "args": { "name": text } })
        }
        Some(track) => json!({
            "ph": "M", "name": "thread_name", "pid": process, "tid": track, "args": { "name": text }
        }),
    };
    let mut all =
        vec![name(CPUS, None, "CPUs"), name(SLOTS, None, "slots"), name(TLBS, None, "TLBs")];
    all.extend((0..timeline.cpus()).map(|cpu| name(CPUS, Some(cpu), &format!("cpu{cpu}"))));
    for (index, (page, slot)) in timeline.slots.iter().enumerate() {
        let text = format!("{} {page:#x}, slot {slot:#x}", names.page(*page));
        all.push(name(SLOTS, Some(index), &text));
        all.push(name(TLBS, Some(index), &format!("of {}", names.page(*page))));
    }
    all
}

/// A step lasts until the next step of any CPU: one runs at a time. The rest are instants.
fn of_cpu(
    timeline: &Timeline,
    names: &Names<'_>,
    number: usize,
    times: &[u64],
    end: u64,
) -> Option<Value> {
    let event = &timeline.events[number];
    let (title, args) = match &event.what {
        What::Step(what, object) => {
            (names.step(what, *object), json!({ "object": format!("{object:#x}") }))
        }
        What::Tick => ("interrupt".into(), json!({})),
        What::Pte { page, old, new, done, .. } => {
            let title = if *done { "writes" } else { "loses" };
            let args = json!({ "old": format!("{old:#x}"), "new": format!("{new:#x}") });
            (format!("{title} {}", names.page(*page)), args)
        }
        What::Tlbi(0) => ("TLBI all".into(), json!({})),
        What::Tlbi(page) => (format!("TLBI {}", names.page(*page)), json!({})),
        What::Dsb(full) => (if *full { "DSB ISH" } else { "DSB ISHST" }.into(), json!({})),
        What::Frame(frame, out) => {
            let title = if *out { "gets" } else { "frees" };
            let args = json!({ "frame": format!("{frame:#x}") });
            (format!("{title} {}", names.frame(*frame)), args)
        }
        What::Wait(lock) => (format!("waits for {}", names.lock(*lock)), json!({})),
        What::Drain(object) => (format!("drains {object:#x}"), json!({})),
        What::View(..) => return None,
    };
    let mut args = args;
    args["seq"] = json!(number);
    let place =
        json!({ "pid": CPUS, "tid": event.cpu, "ts": micros(times[number]), "name": title });
    let more = match event.what {
        What::Step(..) => {
            let rest = timeline.events.iter().enumerate().skip(number + 1);
            let next = rest.into_iter().find(|(_, other)| matches!(other.what, What::Step(..)));
            let until = next.map_or(end, |(next, _)| times[next]);
            json!({ "ph": "X", "dur": micros(until - times[number]), "args": args })
        }
        _ => json!({ "ph": "i", "s": "t", "args": args }),
    };
    Some(joined(place, more))
}

/// A slot holds what was written until the next write, and TLBs may hold what they may.
fn of_slots(
    timeline: &Timeline,
    names: &Names<'_>,
    number: usize,
    event: &Event,
    times: &[u64],
    end: u64,
) -> Vec<Value> {
    let lasting = |process: u32, page: u64, title: String, args: Value, until: Option<usize>| {
        let track = timeline.slots.iter().position(|(known, _)| *known == page)?;
        let until = until.map_or(end, |next| times[next]);
        let dur = micros(until - times[number]);
        Some(json!({
            "ph": "X", "pid": process, "tid": track, "ts": micros(times[number]), "dur": dur,
            "name": title, "args": args,
        }))
    };
    let next = |wanted: &dyn Fn(&What) -> bool| {
        let mut rest = timeline.events.iter().enumerate().skip(number + 1);
        rest.find(|(_, event)| wanted(&event.what)).map(|(number, _)| number)
    };
    let mut all = Vec::new();
    if let What::Pte { page, new, was_is: (_, is), done: true, .. } = &event.what {
        let until =
            next(&|what| matches!(what, What::Pte { page: p, done: true, .. } if p == page));
        let mut args = json!({ "seq": number, "entry": format!("{new:#x}"), "cpu": event.cpu });
        if new & 1 == 1 {
            args["frame"] = json!(format!("{:#x}", output_of(*new)));
        }
        all.extend(lasting(SLOTS, *page, names.entry(*new, is), args, until));
    }
    if let Some((page, view)) = view_of(&event.what) {
        let until = next(&|what| view_of(what).is_some_and(|(other, _)| other == page));
        all.extend(lasting(TLBS, page, names.view(view), json!({ "seq": number }), until));
    }
    all
}

/// Nanoseconds as the format has them.
fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// What TLBs may hold of which page behind an event that says so.
fn view_of(what: &What) -> Option<(u64, &str)> {
    match what {
        What::Pte { page, tlb: Some(view), .. } | What::View(page, view) => Some((*page, view)),
        _ => None,
    }
}

fn joined(mut place: Value, more: Value) -> Value {
    if let (Value::Object(place), Value::Object(more)) = (&mut place, more) {
        place.extend(more);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::timeline;
    use super::*;

    #[test]
    fn every_event_is_on_the_track_of_its_cpu_in_order_with_its_number() {
        let timeline = timeline();
        let trace = perfetto(&timeline, "t");
        let of_cpus: Vec<_> = trace["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["pid"] == CPUS && event["ph"] != "M")
            .collect();
        // All but the one that tells only of TLBs.
        assert_eq!(of_cpus.len(), timeline.events.len() - 1);
        let numbers: Vec<_> = of_cpus.iter().map(|event| event["args"]["seq"].as_u64()).collect();
        assert!(numbers.is_sorted() && numbers[0] == Some(0));
        assert!(of_cpus.iter().map(|event| event["ts"].as_f64().unwrap()).is_sorted());
        assert_eq!(trace["otherData"]["lost"], 5);
    }

    #[test]
    fn a_step_lasts_to_the_next_and_a_slot_holds_to_the_next_write() {
        let trace = perfetto(&timeline(), "t");
        let events = trace["traceEvents"].as_array().unwrap();
        let named = |process: u32, name: &str| {
            events.iter().find(|event| event["pid"] == process && event["name"] == name).unwrap()
        };
        let step = named(CPUS, "lock L0");
        assert_eq!((step["ph"].as_str(), step["dur"].as_f64()), (Some("X"), Some(0.2)));
        let scratch = named(SLOTS, "scratch");
        assert_eq!((scratch["tid"].as_u64(), scratch["ts"].as_f64()), (Some(0), Some(0.6)));
        // To the end, as the compare-and-swap that was lost wrote nothing.
        assert_eq!(scratch["dur"].as_f64().map(|us| (us * 10.0).round()), Some(18.0));
        assert_eq!(named(TLBS, "clean")["ts"].as_f64(), Some(1.2));
        assert_eq!(named(CPUS, "TLBI P0")["ph"], "i");
    }
}
