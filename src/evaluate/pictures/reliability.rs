//! How far probabilities can be believed, as a picture: for each tenth of the scale the share of listens after which users
//! came back against the mean probability. On the diagonal the two are one.

use super::bars::{Svg, colour};
use crate::evaluate::ClickMetrics;

/// Sizes in pixels of the SVG.
const LEFT: f64 = 64.0;
const TOP: f64 = 52.0;
const SIDE: f64 = 420.0;
const LEGEND: f64 = 230.0;

/// The reliability of some models as SVG.
pub fn svg(models: &[(&str, &ClickMetrics)]) -> String {
    let mut svg = Svg::new(LEFT + SIDE + LEGEND, TOP + SIDE + 56.0);
    let listens = models.first().map_or(0, |(_, metrics)| metrics.listens);
    svg.text(LEFT, 28.0, 17.0, "start", &format!("Reliability over {listens} listens"));
    let (x, y) = (|value: f64| LEFT + value * SIDE, |value: f64| TOP + (1.0 - value) * SIDE);
    for tick in 0..=5 {
        let value = f64::from(tick) / 5.0;
        svg.line(LEFT, LEFT + SIDE, y(value), if tick == 0 { "#444444" } else { "#dddddd" });
        svg.text(LEFT - 8.0, y(value) + 4.0, 11.0, "end", &format!("{value:.1}"));
        svg.text(x(value), TOP + SIDE + 18.0, 11.0, "middle", &format!("{value:.1}"));
    }
    svg.text(LEFT + SIDE / 2.0, TOP + SIDE + 40.0, 13.0, "middle", "predicted probability");
    svg.text(LEFT, TOP - 8.0, 13.0, "start", "observed share");
    svg.segment((x(0.0), y(0.0)), (x(1.0), y(1.0)), "#aaaaaa", 1.0);
    for (number, (name, metrics)) in models.iter().enumerate() {
        let bins = metrics.reliability.iter().filter(|bin| bin.listens > 0);
        let points: Vec<(f64, f64)> = bins.map(|bin| (x(bin.predicted), y(bin.observed))).collect();
        points.windows(2).for_each(|ends| svg.segment(ends[0], ends[1], colour(number), 2.0));
        points.iter().for_each(|point| svg.rect(point.0 - 3.0, point.1 - 3.0, 6.0, 6.0, colour(number)));
        let line = TOP + 16.0 + number as f64 * 22.0;
        svg.rect(LEFT + SIDE + 16.0, line - 10.0, 12.0, 12.0, colour(number));
        let words = format!("{name}, ECE {:.3}", metrics.calibration_error);
        svg.text(LEFT + SIDE + 34.0, line, 13.0, "start", &words);
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::measure_clicks;
    use crate::evaluate::pictures::bars::png;

    #[test]
    fn a_point_lies_where_its_bin_says() {
        let odds = 3f32.ln();
        let metrics = measure_clicks(&[odds, odds], &[true, false], &[1, 2]);
        let svg = svg(&[("fm", &metrics)]);
        // .75 of 420 pixels right of 64, one half of them below 52; its square begins 3 pixels before.
        assert!(svg.contains(r#"<rect x="376.0" y="259.0" width="6.0""#), "{svg}");
        assert!(svg.contains("fm, ECE 0.250"));
        assert!(png(&svg).expect("a picture").starts_with(b"\x89PNG"));
    }
}
