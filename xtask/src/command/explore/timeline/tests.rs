//! A schedule as the guest tells it, and as a person reads it.

use super::*;

/// Two CPUs at one page, as the guest told it.
pub const LINES: &[&str] = &[
    "scratch frame=0x4132c000",
    "slot page=0xffff800100003000 object=0xffff00004132a018",
    "walk page=0xffff800100003000 root=0x40090000 l0=0x41328003 l1=0x41329003 l2=0x4132a003",
    "step cpu=0 what=start object=0x0 at=1000",
    "step cpu=0 what=lock object=0xffff000041000000 at=1100",
    "frame cpu=0 frame=0x41a22000 out at=1200",
    "step cpu=0 what=pte-load object=0xffff00004132a018 at=1300",
    "step cpu=1 what=access object=0xffff800100003008 at=1400",
    "step cpu=1 what=pte-cas object=0xffff00004132a018 at=1500",
    "pte cpu=1 page=0xffff800100003000 old=0x0 new=0x6000004132c703 was=empty is=valid \
     tlb=valid(0x4132c000) at=1600",
    "dsb cpu=1 kind=ishst at=1700",
    "step cpu=0 what=pte-cas object=0xffff00004132a018 at=1800",
    "lost cpu=0 page=0xffff800100003000 old=0x6000004132c703 new=0x60000041a22703 was=valid \
     is=valid tlb=valid(0x4132c000) at=1900",
    "tlbi cpu=0 page=0xffff800100003000 at=2000",
    "dsb cpu=0 kind=ish at=2100",
    "view cpu=0 page=0xffff800100003000 tlb=clean at=2200",
    "wait cpu=1 lock=0xffff000041000000 at=2300",
    "tick cpu=1 at=2400",
    "5 more entries found no room",
    "cpu0 is Ready",
];

/// The timeline of [`LINES`].
pub fn timeline() -> Timeline {
    Timeline::read(LINES.iter().copied())
}

#[test]
fn what_the_guest_told_is_read_event_by_event() {
    let timeline = timeline();
    assert_eq!(timeline.scratch, Some(0x4132_c000));
    assert_eq!(timeline.page_of(0xffff_0000_4132_a018), Some(0xffff_8001_0000_3000));
    assert_eq!((timeline.events.len(), timeline.cpus(), timeline.lost), (15, 2, 5));
    assert_eq!(timeline.walks[0].entries[2], 0x4132_a003);
    let event = &timeline.events[0];
    assert_eq!((event.cpu, event.at), (0, 1000));
    assert_eq!(event.what, What::Step("start".into(), 0));
    assert_eq!(timeline.events[2].what, What::Frame(0x41a2_2000, true));
}

#[test]
fn a_row_is_a_step_in_the_column_of_its_cpu_with_what_it_changed() {
    let text = render(&timeline());
    let expected = "\
step  cpu0        cpu1          slot                        TLBs
   1  start
   2  lock L0                   gets F0
   3  pte-load P0
   4              access P0
   5              pte-cas P0    P0: empty -> scratch        P0: scratch, DSB ISHST
   6  pte-cas P0                P0: lost, found scratch     P0: scratch, TLBI P0, DSB ISH, P0: clean
   7              waits for L0
   8              INTERRUPT
5 more entries found no room in the guest
  P0 = page 0xffff800100003000, its slot 0xffff00004132a018
  scratch = frame 0x4132c000
  F0 = frame 0x41a22000
  L0 = lock 0xffff000041000000
";
    let squeezed = |text: &str| {
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&text), squeezed(expected), "{text}");
    let column = |line: usize, what: &str| text.lines().nth(line).and_then(|l| l.find(what));
    assert_eq!(column(0, "cpu1"), column(5, "pte-cas"));
    assert_eq!(column(0, "slot"), column(5, "P0: empty"));
    assert_eq!(column(0, "TLBs"), column(6, "P0: scratch"));
}

#[test]
fn a_stale_translation_is_told_with_its_frame() {
    let timeline = timeline();
    let names = Names::of(&timeline);
    assert_eq!(names.view("stale(0x4132c000)"), "stale scratch");
    assert_eq!(names.view("valid(0x41a22000)"), "F0");
    assert_eq!(names.view("clean"), "clean");
    assert_eq!(names.step("range", 0xffff_8001_0000_0000), "range");
}

#[test]
fn of_a_schedule_without_end_the_beginning_and_the_end_are_shown() {
    let step = |at| format!("step cpu={} what=start object=0x0", at % 2);
    let lines: Vec<_> = (0..4000).map(step).collect();
    let text = render(&Timeline::read(lines.iter().map(String::as_str)));
    let rows: Vec<_> = text.lines().collect();
    assert_eq!(rows.len(), 1 + 100 + 1 + 60);
    assert_eq!(rows[101], " ...  3840 steps more");
    assert!(rows[100].starts_with(" 100 ") && rows[102].starts_with("3941 "), "{text}");
}

#[test]
fn lines_that_mean_nothing_are_left() {
    let timeline = Timeline::read(["", "x", "step cpu=0", "pte cpu=0 page=0x1", "what is this"]);
    assert_eq!(timeline, Timeline::default());
    assert_eq!(render(&timeline).lines().count(), 1);
}
