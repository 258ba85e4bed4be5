//! A report as a picture: a panel a metric, a group of bars a kind of seeds, a bar a model.
//!
//! The picture is written as SVG; a PNG is that same SVG drawn.

use std::fmt::Write;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

use crate::dataset::SeedKind;
use crate::evaluate::CompletionMetrics;
use crate::evaluate::Report;

/// Colors that people with any kind of color vision tell apart (Okabe and Ito 2008; grey for their yellow).
const COLOURS: [&str; 8] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#000000"];
/// Sizes in pixels of the SVG.
const BAR: f64 = 28.0;
const GAP: f64 = 22.0;
const LEAST_GROUP: f64 = 86.0;
const LEAST_WIDTH: f64 = 560.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 16.0;
const HEADER: f64 = 78.0;
const PANEL: f64 = 236.0;
/// Within a panel: above the bars, for its title; below them, for the names of kinds.
const ABOVE: f64 = 40.0;
const BELOW: f64 = 44.0;
/// A PNG has this many pixels for one of the SVG's, so that it is sharp on today's screens.
const PNG_SCALE: f32 = 2.0;

struct Metric {
    title: &'static str,
    decimals: usize,
    of: fn(&CompletionMetrics) -> f64,
}

const METRICS: [Metric; 3] = [
    Metric { title: "R-precision with artist credit (more is better)", decimals: 3, of: |metrics| metrics.r_precision },
    Metric { title: "NDCG over 500 tracks (more is better)", decimals: 3, of: |metrics| metrics.ndcg },
    Metric { title: "Clicks until the first hit (fewer is better)", decimals: 1, of: |metrics| metrics.clicks },
];

/// The report as SVG.
pub fn svg(report: &Report) -> String {
    let kinds: Vec<Option<SeedKind>> = report.kinds().map(Some).chain([None]).collect();
    let group = (report.models.len() as f64 * BAR + GAP).max(LEAST_GROUP);
    let bars = kinds.len() as f64 * group;
    let legend: f64 = report.models.iter().map(|model| legend_length(&model.name)).sum();
    let width = LEFT + bars.max(legend).max(LEAST_WIDTH) + RIGHT;
    let height = HEADER + METRICS.len() as f64 * PANEL;
    let mut svg = Svg::new(width, height);
    let title = format!("Completion of {} playlists, by kind of seeds", report.playlists);
    svg.text(LEFT, 28.0, 17.0, "start", &title);
    let mut x = LEFT;
    for (number, model) in report.models.iter().enumerate() {
        svg.rect(x, 44.0, 12.0, 12.0, colour(number));
        svg.text(x + 18.0, 54.0, 13.0, "start", &model.name);
        x += legend_length(&model.name);
    }
    for (number, metric) in METRICS.iter().enumerate() {
        panel(&mut svg, report, metric, &kinds, group, HEADER + number as f64 * PANEL);
    }
    svg.finish()
}

/// Figures along an axis: panels one below the other, each with its lines over the same places.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// what the picture is about
    pub title: String,
    /// what is along the axis
    pub axis: String,
    /// its places, evenly apart
    pub places: Vec<String>,
    /// the panels: a title and the lines, each with a name and a value for each place or none
    pub panels: Vec<(String, Vec<Line>)>,
}

/// A line of a [`LineChart`].
pub type Line = (String, Vec<Option<f64>>);

/// A chart of lines as SVG.
pub fn lines(chart: &LineChart) -> String {
    const PLACE: f64 = 64.0;
    let names: Vec<&str> = chart.panels.iter().flat_map(|panel| panel.1.iter().map(|line| line.0.as_str())).fold(
        Vec::new(),
        |mut names, name| {
            if !names.contains(&name) {
                names.push(name);
            }
            names
        },
    );
    let inner = (chart.places.len() as f64 * PLACE).max(LEAST_WIDTH);
    // A legend as long as the picture is wide goes on in the next line.
    let mut legend = vec![(0.0, 0.0)];
    for name in &names {
        let (x, y) = legend[legend.len() - 1];
        let next = x + legend_length(name);
        legend.push(if next > inner { (0.0, y + 20.0) } else { (next, y) });
    }
    let below_legend = legend[legend.len() - 1].1;
    let height = HEADER + below_legend + chart.panels.len() as f64 * PANEL;
    let mut svg = Svg::new(LEFT + inner + RIGHT, height);
    svg.text(LEFT, 28.0, 17.0, "start", &chart.title);
    if chart.panels.iter().any(|panel| panel.1.len() > 1) {
        for (number, (name, (x, y))) in names.iter().zip(&legend).enumerate() {
            svg.rect(LEFT + x, 44.0 + y, 12.0, 12.0, colour(number));
            svg.text(LEFT + x + 18.0, 54.0 + y, 13.0, "start", name);
        }
    }
    let place = |number: usize| LEFT + (number as f64 + 0.5) * inner / chart.places.len().max(1) as f64;
    for (number, (title, lines)) in chart.panels.iter().enumerate() {
        let top = HEADER + below_legend + number as f64 * PANEL;
        let values = || lines.iter().flat_map(|line| line.1.iter().flatten().copied());
        let (step, limit) = axis(values().fold(0.0, f64::max));
        let (base, scale) = (top + PANEL - BELOW, (PANEL - ABOVE - BELOW) / limit);
        grid(&mut svg, title, top, LEFT + inner, step, limit);
        for (line, (name, values)) in lines.iter().enumerate() {
            let colour = colour(names.iter().position(|other| other == name).unwrap_or(line));
            let points: Vec<(f64, f64, f64)> = (0..)
                .zip(values)
                .filter_map(|(number, value)| value.map(|value| (place(number), base - value * scale, value)))
                .collect();
            svg.path(&points, colour);
            for &(x, y, value) in points.iter().filter(|_| lines.len() == 1) {
                svg.label(x, y - 8.0, &short(value));
            }
        }
        // Of many places only some are named.
        let named = chart.places.len().div_ceil(16).max(1);
        for (number, words) in chart.places.iter().enumerate().step_by(named) {
            svg.text(place(number), base + 16.0, 12.0, "middle", words);
        }
        svg.text(LEFT + inner / 2.0, base + 34.0, 12.0, "middle", &chart.axis);
    }
    svg.finish()
}

/// Three digits that count.
fn short(value: f64) -> String {
    let decimals = [(0.1, 4), (1.0, 3), (10.0, 2), (100.0, 1)]
        .into_iter()
        .find(|step| value.abs() < step.0)
        .map_or(0, |step| step.1);
    format!("{value:.decimals$}").trim_start_matches('0').to_owned()
}

/// A panel's title and horizontal lines with their values.
fn grid(svg: &mut Svg, title: &str, top: f64, right: f64, step: f64, limit: f64) {
    let (base, scale) = (top + PANEL - BELOW, (PANEL - ABOVE - BELOW) / limit);
    svg.text(LEFT, top + 16.0, 14.0, "start", title);
    for tick in 0..=(limit / step).round() as usize {
        let value = tick as f64 * step;
        let y = base - value * scale;
        svg.line(LEFT, right, y, if tick == 0 { "#444444" } else { "#dddddd" });
        let decimals = if step < 0.1 { 2 } else { usize::from(step < 1.0) };
        svg.text(LEFT - 8.0, y + 4.0, 11.0, "end", &format!("{value:.decimals$}"));
    }
}

/// An SVG made by [`svg`] or [`lines`] as PNG.
///
/// # Errors
///
/// When it is too large to draw.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first()).map(|(name, _)| name.clone());
    fonts.set_sans_serif_family(family.ok_or("there is no font")?);
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size().scale_by(PNG_SCALE).ok_or("it is too large")?;
    let mut pixmap = Pixmap::new(size.width(), size.height()).ok_or("it is too large")?;
    resvg::render(&tree, Transform::from_scale(PNG_SCALE, PNG_SCALE), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| error.to_string())
}

/// Of a model in the legend: its square, about what letters of that size take, and the distance to the next one.
fn legend_length(name: &str) -> f64 {
    42.0 + name.chars().count() as f64 * 7.5
}

fn panel(svg: &mut Svg, report: &Report, metric: &Metric, kinds: &[Option<SeedKind>], group: f64, top: f64) {
    let value = |model: usize, kind: Option<SeedKind>| {
        let model = &report.models[model];
        kind.map_or(Some(&model.all), |kind| model.kinds.get(&kind)).map(metric.of)
    };
    let values = kinds.iter().flat_map(|&kind| (0..report.models.len()).filter_map(move |model| value(model, kind)));
    let largest = values.fold(0.0, f64::max);
    let (step, limit) = axis(largest);
    let (base, scale) = (top + PANEL - BELOW, (PANEL - ABOVE - BELOW) / limit);
    let right = LEFT + kinds.len() as f64 * group;

    grid(svg, metric.title, top, right, step, limit);
    for (number, &kind) in kinds.iter().enumerate() {
        let middle = LEFT + (number as f64 + 0.5) * group;
        let start = middle - report.models.len() as f64 * BAR / 2.0;
        for model in 0..report.models.len() {
            let Some(value) = value(model, kind) else { continue };
            let (x, height) = (start + model as f64 * BAR, value * scale);
            svg.rect(x + 1.0, base - height, BAR - 2.0, height, colour(model));
            let label = format!("{value:.*}", metric.decimals);
            svg.label(x + BAR / 2.0, base - height - 4.0, label.trim_start_matches('0'));
        }
        for (line, words) in label(kind).iter().enumerate() {
            svg.text(middle, base + 16.0 + 14.0 * line as f64, 12.0, "middle", words);
        }
    }
    // All playlists together are another thing than one kind of them.
    svg.vertical(right - group, top + ABOVE - 8.0, base, "#aaaaaa");
}

fn label(kind: Option<SeedKind>) -> [String; 2] {
    let Some(kind) = kind else { return ["all".to_owned(), String::new()] };
    let order = if kind.is_random() { "random" } else { "first" };
    match (kind.has_title(), kind.seeds()) {
        (true, 0) => ["title".to_owned(), "alone".to_owned()],
        (true, seeds) => ["title +".to_owned(), format!("{order} {seeds}")],
        (false, seeds) => [format!("{order} {seeds}"), "no title".to_owned()],
    }
}

/// Distance of the grid's lines and the end of the axis: three to six steps of 1, 2 or 5 times a power of ten.
fn axis(largest: f64) -> (f64, f64) {
    if largest <= 0.0 {
        return (0.25, 1.0);
    }
    let rough = largest / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough).unwrap_or(rough);
    (step, (largest / step).ceil() * step)
}

pub(crate) fn colour(model: usize) -> &'static str {
    COLOURS[model % COLOURS.len()]
}

/// SVG under construction.
pub(crate) struct Svg(String);

impl Svg {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        let mut svg = Self(format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" fill="#222222">"##
        ));
        svg.rect(0.0, 0.0, width, height, "#ffffff");
        svg
    }

    pub(crate) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    pub(crate) fn line(&mut self, left: f64, right: f64, y: f64, colour: &str) {
        self.push(format_args!(r#"<line x1="{left:.1}" x2="{right:.1}" y1="{y:.1}" y2="{y:.1}" stroke="{colour}"/>"#));
    }

    pub(crate) fn segment(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        ));
    }

    fn vertical(&mut self, x: f64, top: f64, bottom: f64, colour: &str) {
        self.push(format_args!(
            r#"<line x1="{x:.1}" x2="{x:.1}" y1="{top:.1}" y2="{bottom:.1}" stroke="{colour}" stroke-dasharray="4 4"/>"#
        ));
    }

    /// A line through points, each marked.
    fn path(&mut self, points: &[(f64, f64, f64)], colour: &str) {
        let line: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let line = line.join(" ");
        self.push(format_args!(r#"<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>"#));
        for (x, y, _) in points {
            self.push(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#));
        }
    }

    pub(crate) fn text(&mut self, x: f64, y: f64, size: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// A number above a bar, on a white edge that keeps the grid's lines off it.
    fn label(&mut self, x: f64, y: f64, text: &str) {
        self.push(format_args!(
            r##"<text x="{x:.1}" y="{y:.1}" font-size="10" text-anchor="middle" stroke="#ffffff" stroke-width="3" paint-order="stroke">{text}</text>"##
        ));
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing into a string can't fail.
        let _ = writeln!(self.0, "\n{element}");
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::report::tests::report;

    #[test]
    fn bars_are_as_high_as_what_they_show() {
        let svg = svg(&report());
        for words in ["track2vec", "a&amp;b", "title +", "random 100", "no title", "NDCG", "Clicks", "150 playlists"] {
            assert!(svg.contains(words), "no {words:?} in {svg}");
        }
        // Three panels of four groups of two bars.
        let heights: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect") && line.contains(r#"width="26.0""#))
            .map(|line| line.split(r#"height=""#).nth(1).expect("a height").split('"').next().expect("a number"))
            .map(|height| height.parse().expect("a number"))
            .collect();
        assert_eq!(heights.len(), 3 * 4 * 2);
        assert!((heights[0] / heights[1] - 2.0).abs() < 0.01, "{heights:?}");
        assert!((heights[2] / heights[0] - 1.25).abs() < 0.01, "{heights:?}");
    }

    #[test]
    fn lines_go_through_their_values_and_skip_what_is_missing() {
        let line = |name: &str, values: &[Option<f64>]| (name.to_owned(), values.to_vec());
        let chart = LineChart {
            title: "α".to_owned(),
            axis: "alpha".to_owned(),
            places: vec!["-1".to_owned(), "0".to_owned(), "1".to_owned()],
            panels: vec![
                ("Hit@10".to_owned(), vec![line("a", &[Some(0.05), None, Some(0.1)])]),
                ("loss".to_owned(), vec![line("a", &[Some(2.0); 3]), line("b", &[None, Some(1.0), Some(4.0)])]),
            ],
        };
        let svg = lines(&chart);
        let heights = |line: &str| -> Vec<f64> {
            let points = line.split('"').nth(1).expect("points").split(' ');
            points.map(|point| point.split(',').nth(1).expect("y").parse().expect("a number")).collect()
        };
        let paths: Vec<Vec<f64>> = svg.lines().filter(|line| line.starts_with("<polyline")).map(heights).collect();
        assert_eq!(paths.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3, 2]);
        // Twice as far above the base.
        let base = HEADER + PANEL - BELOW;
        assert!(((base - paths[0][1]) / (base - paths[0][0]) - 2.0).abs() < 0.01, "{paths:?}");
        for words in ["α", "alpha", "Hit@10", ".100", "0.05"] {
            assert!(svg.contains(&format!(">{words}<")), "no {words:?} in {svg}");
        }
        assert!(png(&svg).expect("a picture").starts_with(b"\x89PNG"));
    }

    #[test]
    fn the_png_has_letters() {
        let with_words = svg(&report());
        let picture = png(&with_words).expect("a picture");
        assert!(picture.starts_with(b"\x89PNG"));
        let wordless: String = with_words.lines().filter(|line| !line.starts_with("<text")).collect();
        assert!(picture != png(&wordless).expect("a picture"), "no letters were drawn");
    }

    #[test]
    fn axes_end_at_a_round_number_above_the_largest_value() {
        for (largest, step, limit) in [(0.38, 0.1, 0.4), (23.9, 10.0, 30.0), (0.05, 0.02, 0.06), (1.0, 0.5, 1.0)] {
            let axis = axis(largest);
            assert!((axis.0 - step).abs() < 1e-9 && (axis.1 - limit).abs() < 1e-9, "{largest}: {axis:?}");
        }
        assert_eq!(axis(0.0), (0.25, 1.0));
    }
}
