//! The curves, as a drawing: time over number of pods, both in powers of ten.

use std::fmt::Write;

use crate::table::Results;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const MARGIN: f64 = 60.0;
const CURVES: [(&str, &str, &str); 6] = [
    ("pass", "one pass over /proc and the mount table", "#999999"),
    ("nothing", "our hook, nothing to do", "#56b4e9"),
    ("floor", "the kernel's floor", "#000000"),
    ("forced", "our hook, forced", "#d55e00"),
    ("graceful", "our hook, graceful", "#009e73"),
    ("peer", "the peer", "#cc79a7"),
];

/// Where a pair of values lies in the drawing.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn x(&self, pods: f64) -> f64 {
        MARGIN + (pods.log10() - self.x.0) / (self.x.1 - self.x.0).max(0.1) * (WIDTH - 2.0 * MARGIN)
    }

    fn y(&self, ms: f64) -> f64 {
        HEIGHT - MARGIN - (ms.log10() - self.y.0) / (self.y.1 - self.y.0).max(0.1) * (HEIGHT - 2.0 * MARGIN)
    }
}

pub fn draw(results: &Results) -> String {
    let counts: Vec<f64> = results.counts().into_iter().map(|n| n as f64).collect();
    let ms = |pods: f64, program: &str| results.seconds(pods as usize, program).map(|s| s * 1e3);
    let all: Vec<f64> =
        counts.iter().flat_map(|n| CURVES.iter().filter_map(|(program, ..)| ms(*n, program))).collect();
    let smallest = all.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = all.iter().copied().fold(0.0, f64::max);
    let ends = |list: &[f64], end: fn(f64, f64) -> f64, from| list.iter().copied().fold(from, end).log10();
    let scale = Scale {
        x: (ends(&counts, f64::min, f64::INFINITY), ends(&counts, f64::max, 0.0)),
        y: (smallest.log10().floor(), largest.log10().ceil()),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    axes(&mut svg, &scale, &counts);
    for (i, (program, title, colour)) in CURVES.iter().enumerate() {
        let points: Vec<String> = counts
            .iter()
            .filter_map(|n| Some(format!("{:.1},{:.1}", scale.x(*n), scale.y(ms(*n, program)?))))
            .collect();
        if points.is_empty() {
            continue;
        }
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
        let y = MARGIN + 16.0 * i as f64;
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\" fill=\"{colour}\">{title}</text>", MARGIN + 10.0);
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, scale: &Scale, counts: &[f64]) {
    let (bottom, right) = (HEIGHT - MARGIN, WIDTH - MARGIN);
    for power in scale.y.0 as i32..=scale.y.1 as i32 {
        let (ms, y) = (10f64.powi(power), scale.y(10f64.powi(power)));
        let _ =
            writeln!(svg, "<line x1=\"{MARGIN}\" y1=\"{y}\" x2=\"{right}\" y2=\"{y}\" stroke=\"#dddddd\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{ms} ms</text>", MARGIN - 6.0);
    }
    for pods in counts {
        let x = scale.x(*pods);
        let _ =
            writeln!(svg, "<line x1=\"{x}\" y1=\"{MARGIN}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{pods} pods</text>",
            bottom + 18.0
        );
    }
}
