//! Logs, and traces where someone collects them.
//!
//! Traces go out by OTLP over HTTP when OpenTelemetry's own variables say where to (`OTEL_EXPORTER_OTLP_ENDPOINT`, or
//! `…_TRACES_ENDPOINT`); `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and their like are
//! honoured too.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// for people
    Text,
    /// one JSON object a line
    Json,
}

/// Sends out, when it goes, what has not been sent yet.
#[must_use]
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            eprintln!("warning: the last traces were not sent: {error}");
        }
    }
}

/// Sends logs to standard error. `SEGUE_LOG` filters them (`info`, `segue=debug`, …), or `filter` where it is not set.
///
/// To be called outside of any runtime: the exporter of traces blocks.
pub fn init(format: LogFormat, filter: &str) -> Telemetry {
    let filter = EnvFilter::try_from_env("SEGUE_LOG").unwrap_or_else(|_| EnvFilter::new(filter));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let provider = match tracer_provider() {
        Ok(provider) => provider,
        Err(error) => {
            eprintln!("warning: traces can't be sent: {error}");
            None
        }
    };
    let traces = provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("segue")));
    // A second call, as tests make, leaves the first one's subscriber in place.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(traces).try_init();
    Telemetry(provider)
}

/// `None` where no variable says that traces are wanted.
fn tracer_provider() -> Result<Option<SdkTracerProvider>, opentelemetry_otlp::ExporterBuildError> {
    let is_set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let is_off = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
        || std::env::var("OTEL_TRACES_EXPORTER").is_ok_and(|value| value == "none");
    let is_wanted = is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    if !is_wanted || is_off {
        return Ok(None);
    }
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder();
    let resource = if is_set("OTEL_SERVICE_NAME") { resource } else { resource.with_service_name("segue") };
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build()))
}
