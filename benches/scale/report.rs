//! The table and the picture of all parts: `report.md`, `report.svg`.

use std::fmt::Write;
use std::path::Path;

use crate::machine::Machine;
use crate::stages::{Results, results};

/// Of the completion model: length of a track's factors, and passes of least squares.
const FACTORS: f64 = 128.0;
const PASSES: f64 = 12.0;
/// What the longest completion of ten seeds reads: postings of each seed, neighbors, candidates.
const POSTINGS: f64 = 20_000.0;
const NEIGHBORS: f64 = 3_000.0;
const CANDIDATES: f64 = 1_500.0;
/// Where the picture is, in pixels.
const LEFT: f64 = 64.0;
const PANEL: f64 = 300.0;
const WIDTH: f64 = 560.0;
/// Colors that people with any kind of color vision tell apart (Okabe and Ito 2008).
const COLORS: [&str; 8] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#000000"];

/// A cost: what it was for each part, if known, and the least that the machine allows.
struct Cost {
    name: String,
    unit: &'static str,
    values: Vec<Option<f64>>,
    least: Vec<Option<f64>>,
}

impl Cost {
    /// The power of the number of placements that the cost grows with.
    fn exponent(&self, placements: &[f64]) -> Option<f64> {
        let known =
            placements.iter().zip(&self.values).filter_map(|(size, value)| Some((size.ln(), value.as_ref()?.ln())));
        let points: Vec<(f64, f64)> = known.filter(|(_, cost)| cost.is_finite()).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        (points.len() > 1 && slope.is_finite()).then_some(slope)
    }
}

/// Writes what is known, and returns the table.
pub fn write(folder: &Path, machine: &Machine) -> String {
    let parts = results(folder);
    let placements: Vec<f64> = parts.iter().map(|part| part.placements as f64).collect();
    let costs = costs(&parts, machine);
    let table = table(&parts, &placements, &costs, machine);
    std::fs::write(folder.join("report.md"), &table).expect("the report can be written");
    std::fs::write(folder.join("report.svg"), picture(&placements, &costs)).expect("the picture can be written");
    table
}

fn costs(parts: &[Results], machine: &Machine) -> Vec<Cost> {
    let mut names: Vec<&String> = parts.iter().flat_map(|part| part.stages.keys()).collect();
    names.sort();
    names.dedup();
    let mut costs = Vec::new();
    for name in names {
        let stage = |part: &Results| part.stages.get(name).filter(|stage| stage.done).cloned();
        let mut add =
            |what: &str, unit, value: fn(&crate::stages::Stage) -> f64, least: &dyn Fn(&Results) -> Option<f64>| {
                costs.push(Cost {
                    name: format!("{name}{what}"),
                    unit,
                    values: parts.iter().map(|part| stage(part).as_ref().map(value)).collect(),
                    least: parts.iter().map(least).collect(),
                });
            };
        add("", "s", |stage| stage.seconds, &|part| least_seconds(name, part, machine));
        add(": memory", "MiB", |stage| stage.memory, &|_| None);
        add(": disk", "MB", |stage| stage.megabytes, &|_| None);
    }
    let mut add = |name: &str, unit, value: &dyn Fn(&crate::stages::Serving) -> f64| {
        let values: Vec<Option<f64>> = parts.iter().map(|part| part.serving.as_ref().map(value)).collect();
        if values.iter().any(Option::is_some) {
            let least = |part: &Results| {
                (name.contains("completion, ") || name.contains("completions")).then(|| {
                    let length = part.placements as f64 / part.playlists as f64;
                    let bytes = 10.0 * POSTINGS * 4.0 + NEIGHBORS * length * 4.0 + CANDIDATES * FACTORS * 4.0;
                    if unit == "ms" { bytes / machine.memory * 1e3 } else { 2.0 * machine.memory / bytes }
                })
            };
            costs.push(Cost { name: name.to_owned(), unit, values, least: parts.iter().map(least).collect() });
        }
    };
    add("serve: until ready", "s", &|serving| serving.load_seconds);
    add("serve: private memory", "MiB", &|serving| serving.private);
    add("serve: with mapped pages", "MiB", &|serving| serving.resident);
    let measured = parts.iter().filter_map(|part| part.serving.as_ref()).flat_map(|serving| serving.latencies.keys());
    let mut requests: Vec<&String> = measured.collect();
    requests.sort();
    requests.dedup();
    let of = |serving: &crate::stages::Serving, request: &String| serving.latencies.get(request).copied();
    for request in requests {
        add(&format!("{request}, median"), "ms", &|serving| of(serving, request).map_or(f64::NAN, |spread| spread.0));
        add(&format!("{request}, p99"), "ms", &|serving| of(serving, request).map_or(f64::NAN, |spread| spread.1));
    }
    add("completions of 10 tracks on all cores", "/s", &|serving| serving.completions);
    add("half of these a second, p99", "ms", &|serving| serving.before_swap.1);
    add("the same while the model is loaded again and again, p99", "ms", &|serving| serving.while_swap.1);
    add("requests that failed meanwhile", "", &|serving| serving.dropped as f64);
    costs
}

/// Bytes over bandwidth, or operations over rate.
fn least_seconds(stage: &str, part: &Results, machine: &Machine) -> Option<f64> {
    let megabytes = |stage: &str| part.stages.get(stage).map(|stage| stage.megabytes * 1e6);
    match stage {
        "generate" => Some(megabytes("generate")? / machine.disk),
        // Tables and their log are both written.
        "import" => Some(2.0 * megabytes("import")? / machine.disk),
        // One index: a symmetric matrix is added up for each playlist and each track, and a system solved.
        "train completion" => {
            let systems = (part.playlists + part.tracks) as f64;
            let pass = 2.0 * part.placements as f64 * FACTORS.powi(2) + systems * FACTORS.powi(3) / 3.0;
            Some(PASSES * pass / machine.operations)
        }
        _ => None,
    }
}

fn table(parts: &[Results], placements: &[f64], costs: &[Cost], machine: &Machine) -> String {
    let mut table = String::from("| placements |");
    for size in placements {
        write!(table, " {} |", segue::progress::thousands(*size as u64)).expect("text");
    }
    table.push_str(" exponent | least possible for the largest |\n| --- |");
    table.push_str(&" ---: |".repeat(parts.len() + 2));
    table.push('\n');
    for cost in costs {
        write!(table, "| {} |", cost.name).expect("text");
        for value in &cost.values {
            let text =
                value.filter(|value| value.is_finite()).map_or_else(String::new, |value| with_unit(value, cost.unit));
            write!(table, " {text} |").expect("text");
        }
        let exponent = cost.exponent(placements).map_or_else(String::new, |exponent| format!("{exponent:.2}"));
        let least = cost.least.iter().flatten().last().map_or_else(String::new, |least| with_unit(*least, cost.unit));
        writeln!(table, " {exponent} | {least} |").expect("text");
    }
    writeln!(
        table,
        "\nThis machine reads {:.1} GB/s from memory with a core, writes {:.2} GB/s to disk and does {:.0} GFLOP/s with \
         all cores.",
        machine.memory / 1e9,
        machine.disk / 1e9,
        machine.operations / 1e9
    )
    .expect("text");
    table
}

/// Three digits, and no more than the number has.
fn with_unit(value: f64, unit: &str) -> String {
    let decimals = [(1.0, 3), (10.0, 2), (100.0, 1)].into_iter().find(|step| value < step.0).map_or(0, |step| step.1);
    let number =
        if decimals == 0 { segue::progress::thousands(value.round() as u64) } else { format!("{value:.decimals$}") };
    format!("{number} {unit}").trim_end().to_owned()
}

/// A panel each for seconds, MiB and milliseconds; both axes are logarithmic.
fn picture(placements: &[f64], costs: &[Cost]) -> String {
    let panels = [("Time in seconds", "s"), ("Memory in MiB", "MiB"), ("Latency in ms", "ms")];
    let height = PANEL * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{height}' font-family='sans-serif' font-size='12'>\
         <rect width='100%' height='100%' fill='white'/>",
        LEFT + WIDTH + 320.0
    );
    for (number, (title, unit)) in panels.iter().enumerate() {
        let of_unit: Vec<&Cost> = costs
            .iter()
            .filter(|cost| cost.unit == *unit && !cost.name.ends_with("p99"))
            .filter(|cost| cost.values.iter().flatten().any(|value| value.is_finite() && *value > 0.0))
            .collect();
        panel(&mut svg, title, PANEL * number as f64, placements, &of_unit);
    }
    svg.push_str("</svg>");
    svg
}

fn panel(svg: &mut String, title: &str, top: f64, placements: &[f64], costs: &[&Cost]) {
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) =
            values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
        (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0))
    };
    if placements.is_empty() || costs.is_empty() {
        return;
    }
    let across = decades(&mut placements.iter().copied());
    let positive = |value: &f64| value.is_finite() && *value > 0.0;
    let up = decades(&mut costs.iter().flat_map(|cost| cost.values.iter().flatten().copied()).filter(positive));
    let x = |size: f64| LEFT + (size.log10() - across.0) / (across.1 - across.0) * WIDTH;
    let (above, inner) = (top + 34.0, PANEL - 74.0);
    let y = |value: f64| above + inner - (value.log10() - up.0) / (up.1 - up.0) * inner;
    write!(svg, "<text x='{LEFT}' y='{}' font-size='15'>{title}, by placements</text>", top + 20.0).expect("text");
    for decade in across.0 as i32..=across.1 as i32 {
        let at = x(10_f64.powi(decade));
        let base = above + inner;
        write!(svg, "<path d='M{at} {above}V{base}' stroke='#ddd'/><text x='{at}' y='{}' text-anchor='middle'>10<tspan dy='-5' font-size='9'>{decade}</tspan></text>", base + 18.0)
            .expect("text");
    }
    for decade in up.0 as i32..=up.1 as i32 {
        let at = y(10_f64.powi(decade));
        let label = 10_f64.powi(decade);
        write!(
            svg,
            "<path d='M{LEFT} {at}H{}' stroke='#ddd'/><text x='{}' y='{}' text-anchor='end'>{label}</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            at + 4.0
        )
        .expect("text");
    }
    for (number, cost) in costs.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let dashes = if number < COLORS.len() { "" } else { " stroke-dasharray='6 3'" };
        let known = placements
            .iter()
            .zip(&cost.values)
            .filter_map(|(size, value)| Some((*size, (*value).filter(|value| positive(value))?)));
        let points: Vec<(f64, f64)> = known.map(|(size, value)| (x(size), y(value))).collect();
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        write!(svg, "<polyline points='{}' fill='none' stroke='{color}' stroke-width='2'{dashes}/>", line.join(" "))
            .expect("text");
        for (x, y) in points {
            write!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='3.5' fill='{color}'/>").expect("text");
        }
        let exponent = cost.exponent(placements).map_or_else(String::new, |exponent| format!(" ({exponent:.2})"));
        let (left, at) = (LEFT + WIDTH + 14.0, above + 8.0 + 17.0 * number as f64);
        write!(
            svg,
            "<rect x='{left}' y='{}' width='10' height='10' fill='{color}'/><text x='{}' y='{}'>{}{exponent}</text>",
            at - 9.0,
            left + 16.0,
            at,
            cost.name.trim_end_matches(", median")
        )
        .expect("text");
    }
}
