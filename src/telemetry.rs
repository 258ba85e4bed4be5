//! Logs, and traces if a collector is configured.
//!
//! Traces go out by OTLP over HTTP when OpenTelemetry's own variables say where to (`OTEL_EXPORTER_OTLP_ENDPOINT`, or
//! `…_TRACES_ENDPOINT`); `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and their like are
//! honored too.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// for people
    Text,
    /// one JSON object per line
    Json,
}

/// Sends the remaining traces when dropped.
#[must_use]
#[derive(Debug)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown()
        {
            warn!("the last traces were not sent: {error}");
        }
    }
}

/// Sends logs to `writer`, in colors if that is a terminal that shows them. `SEGUE_LOG` filters them (`info`,
/// `segue=debug`, …), or `filter` if it is not set.
///
/// Must be called outside any runtime: the exporter of traces blocks.
pub fn init<W>(format: LogFormat, filter: &str, writer: W) -> Telemetry
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_from_env("SEGUE_LOG").unwrap_or_else(|_| EnvFilter::new(filter));
    // A log that nobody reads any more is no reason to complain, which would go to the same place.
    let lines = fmt::layer().with_writer(writer).with_target(false).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(shows_colors()).compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let (provider, failure) = match tracer_provider() {
        Ok(provider) => (provider, None),
        Err(error) => (None, Some(error)),
    };
    let traces = provider.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("segue")));
    // A second call, as tests make, leaves the first one's subscriber in place.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(traces).try_init();
    if let Some(error) = failure {
        warn!("cannot send traces: {error}");
    }
    Telemetry(provider)
}

/// Whether standard error is a terminal and `NO_COLOR` (https://no-color.org) is not set.
fn shows_colors() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns `None` if no variable asks for traces.
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
