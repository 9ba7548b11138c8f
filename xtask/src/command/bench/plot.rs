//! Cost against size, as SVG: both axes logarithmic, a line for each benchmark that has sizes.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::compare::Figures;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 40.0;
/// Room for the names, at the right.
const RIGHT: f64 = 240.0;
const BOTTOM: f64 = 60.0;
const COLOURS: [&str; 8] =
    ["#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666"];

/// Points of one line: size and instructions.
type Line = Vec<(u64, u64)>;

/// The plot of the first model's figures.
pub fn svg(figures: &Figures) -> String {
    let lines = lines(figures);
    let points = || lines.values().flatten();
    let most_size = points().map(|point| point.0).max().unwrap_or(1).max(10);
    let most_cost = points().map(|point| point.1).max().unwrap_or(1).max(10);
    let (decades_x, decades_y) = (decades(most_size), decades(most_cost));
    let x = |size: u64| {
        LEFT + (WIDTH - LEFT - RIGHT) * (size.max(1) as f64).log10() / f64::from(decades_x)
    };
    let y = |cost: u64| {
        let share = (cost.max(1) as f64).log10() / f64::from(decades_y);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    };
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"20\">guest instructions against size</text>\n"
    );
    for decade in 0..=decades_x {
        let (at, size) = (x(10u64.pow(decade)), 10u64.pow(decade));
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{size}</text>",
            bottom + 18.0
        );
    }
    for decade in 0..=decades_y {
        let (at, cost) = (y(10u64.pow(decade)), 10u64.pow(decade));
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{cost}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for ((name, line), n) in lines.iter().zip(0..) {
        let colour = COLOURS[n % COLOURS.len()];
        let path: Vec<_> = line.iter().map(|(s, c)| format!("{:.1} {:.1}", x(*s), y(*c))).collect();
        let _ = write!(
            out,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>\n",
            path.join("L"),
            WIDTH - RIGHT + 12.0,
            TOP + 18.0 * (n as f64 + 1.0)
        );
    }
    out + "</svg>\n"
}

fn lines(figures: &Figures) -> BTreeMap<&str, Line> {
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    let first = super::MODELS[0];
    for count in figures.counts.get(first).into_iter().flatten() {
        lines.entry(&count.name).or_default().push((count.size, count.count));
    }
    lines.retain(|_, line| line.len() > 1);
    lines.values_mut().for_each(|line| line.sort_unstable());
    lines
}

/// Powers of ten that reach to `most`.
fn decades(most: u64) -> u32 {
    (most - 1).ilog10() + 1
}

#[cfg(test)]
mod tests {
    use super::super::counts::Count;
    use super::*;

    #[test]
    fn a_benchmark_with_sizes_is_a_line() {
        let mut figures = Figures::default();
        let count = |name: &str, size, count| Count { name: name.into(), size, count, spread: 0 };
        let all = [count("a", 1, 10), count("a", 100, 1000), count("b", 1, 5)];
        figures.add(super::super::MODELS[0], all.into_iter());
        let svg = svg(&figures);
        // From the middle of the first decade to the right end of the second.
        assert!(svg.contains("M80.0 346.7L660.0 40.0"), "{svg}");
        assert!(svg.contains(">a</text>") && !svg.contains(">b</text>"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_is_an_empty_plot() {
        assert!(svg(&Figures::default()).ends_with("</svg>\n"));
    }
}
