//! Plots, as SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Failure;
use crate::row::{Measured, Row};

const WIDTH: f64 = 780.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 290.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart also by those who see no red or no green (Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// Lines over an axis of doubling steps.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Throughput, latencies and cost over transactions in flight; a plot for each number of branches.
pub(crate) fn rows(rows: &[Row], folder: &Path) -> Result<(), Failure> {
    type Of = fn(&Measured) -> f64;
    let figures: [(&str, &str, Of); 5] = [
        ("throughput", "transactions a second", |measured| measured.per_second),
        ("p50", "p50, ms", |measured| measured.p50_ms),
        ("p99", "p99, ms", |measured| measured.p99_ms),
        ("cpu", "processor time of the coordinator for each transaction, ms", |measured| {
            measured.cpu_ms.unwrap_or(f64::NAN)
        }),
        ("fsyncs", "fsyncs for each transaction", |measured| measured.fsyncs.unwrap_or(f64::NAN)),
    ];
    let mut branches: Vec<usize> = rows.iter().map(|row| row.branches).collect();
    branches.sort_unstable();
    branches.dedup();
    for count in branches {
        for (name, y, of) in figures {
            let rows = rows.iter().filter(|row| row.branches == count);
            let plot = Plot {
                title: format!("{count} branches"),
                x: "transactions in flight".to_owned(),
                y: y.to_owned(),
                lines: lines(rows, of),
            };
            plot.save(folder, &format!("{name}-{count}.svg"))?;
        }
    }
    Ok(())
}

fn lines<'a>(rows: impl Iterator<Item = &'a Row>, of: fn(&Measured) -> f64) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let name = format!("{} ({})", row.kind.title(), row.kind.tried_by()).replace(" ()", "");
        let point = (row.in_flight as f64, row.median(of));
        if point.1.is_nan() {
            continue;
        }
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name, points: vec![point] }),
        }
    }
    lines
}

impl Plot {
    pub(crate) fn save(&self, folder: &Path, name: &str) -> Result<(), Failure> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(name), self.draw())?;
        Ok(())
    }

    fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let xs = points().map(|(x, _)| x.max(1.0).log2());
        let (from, to) = xs.fold((f64::MAX, f64::MIN), |(from, to), x| (from.min(x), to.max(x)));
        let top = round_up(points().map(|(_, y)| y).fold(0.0, f64::max));
        let x_of = |x: f64| {
            let share = if to > from { (x.max(1.0).log2() - from) / (to - from) } else { 0.5 };
            LEFT + share * (WIDTH - LEFT - RIGHT)
        };
        let y_of = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, (LEFT, 22.0), "start", &format!("{}: {}", self.title, self.y));
        text(&mut svg, ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 10.0), "middle", &self.x);
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let y = y_of(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>",
                WIDTH - RIGHT
            );
            text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &figure(value));
        }
        let mut ticks: Vec<f64> = points().map(|(x, _)| x).collect();
        ticks.sort_unstable_by(f64::total_cmp);
        ticks.dedup();
        for x in ticks {
            text(&mut svg, (x_of(x), HEIGHT - BOTTOM + 18.0), "middle", &figure(x));
        }
        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let path: Vec<String> =
                line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y))).collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                path.join(" ")
            );
            for (x, y) in &line.points {
                let (x, y) = (x_of(*x), y_of(*y));
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
            let y = TOP + 18.0 * i as f64;
            let x = WIDTH - RIGHT + 15.0;
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
            text(&mut svg, (x + 16.0, y + 9.0), "start", &line.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// The next number whose quarter is a short one.
fn round_up(value: f64) -> f64 {
    let ten = 10_f64.powf(value.max(1e-6).log10().floor());
    let short = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 5.0, 6.0, 8.0, 10.0];
    short.into_iter().map(|times| times * ten).find(|round| *round >= value).unwrap_or(value)
}

fn figure(value: f64) -> String {
    if value >= 1_000_000.0 {
        format!("{}M", value / 1_000_000.0)
    } else if value >= 10_000.0 {
        format!("{}k", value / 1000.0)
    } else {
        format!("{}", (value * 10_000.0).round() / 10_000.0)
    }
}
