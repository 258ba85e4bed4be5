//! The settings of `segue serve`.

use std::net::SocketAddr;
use std::time::Duration;

/// When requests must carry an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthMode {
    /// unless the server listens on a loopback address without proxies
    Auto,
    /// always
    Required,
    /// never
    Off,
}

/// How to serve.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeSettings {
    /// Address and port to listen on
    ///
    /// Port 0 picks a free one.
    #[arg(long, env = "SEGUE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Whether requests need an API key
    #[arg(long, env = "SEGUE_AUTH", value_enum, default_value_t = AuthMode::Auto)]
    pub auth: AuthMode,
    /// Requests per second for each key; 0: no limit
    ///
    /// In bursts of up to ten seconds' worth.
    #[arg(long, env = "SEGUE_RATE_LIMIT_PER_KEY", default_value_t = 0.0, value_parser = rate)]
    pub rate_limit_per_key: f64,
    /// Requests per second for each address; 0: any
    ///
    /// In bursts of up to ten seconds' worth; 0 means no limit.
    #[arg(long, env = "SEGUE_RATE_LIMIT_PER_ADDRESS", default_value_t = 0.0, value_parser = rate)]
    pub rate_limit_per_address: f64,
    /// Number of trusted proxies in front
    ///
    /// The proxies that append to X-Forwarded-For; with 0 the server ignores that header. Behind proxies, requests need an
    /// API key on a loopback address too.
    #[arg(long, env = "SEGUE_PROXIES", default_value_t = 0)]
    pub proxies: usize,
    /// Host names of requests without a key
    ///
    /// Without keys, a server on a loopback address responds to requests for localhost, 127.0.0.1 and [::1] only, and for
    /// these names: no web page can reach it under a name of its own.
    #[arg(long, env = "SEGUE_HOSTS", value_delimiter = ',', value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Allowed CORS origins; none by default
    ///
    /// For example https://app.example.
    #[arg(long, env = "SEGUE_CORS_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
    /// Maximum number of open connections
    ///
    /// For a further one the server closes the one that has been idle longest, or responds 503 if none is idle. The limit on
    /// open files bounds it too.
    #[arg(long, env = "SEGUE_MAX_CONNECTIONS", default_value_t = 4096)]
    pub max_connections: usize,
    /// Time after which idle clients are cut off
    ///
    /// In seconds. Slow clients too: those that read less than 10 kB/s of a response, or send less than 1 kB/s of a bulk
    /// request.
    #[arg(long, env = "SEGUE_IDLE_SECONDS", allow_negative_numbers = true, default_value_t = 30.0, value_parser = seconds)]
    pub idle_seconds: f64,
    /// Maximum number of requests in progress
    ///
    /// Further ones get a 503.
    #[arg(long, env = "SEGUE_MAX_REQUESTS", default_value_t = 1024)]
    pub max_requests: usize,
    /// Maximum number of bulk requests
    ///
    /// Further ones get a 503 while this many are in progress.
    #[arg(long, env = "SEGUE_MAX_BULK_REQUESTS", default_value_t = 4)]
    pub max_bulk_requests: usize,
    /// Time limit of a request, in seconds
    #[arg(long, env = "SEGUE_REQUEST_TIMEOUT_SECONDS", allow_negative_numbers = true, default_value_t = 10.0, value_parser = seconds)]
    pub request_timeout_seconds: f64,
    /// Largest accepted request body, in bytes
    #[arg(long, env = "SEGUE_MAX_BODY_BYTES", default_value_t = 4 << 20)]
    pub max_body_bytes: usize,
    /// Threads that compute recommendations
    ///
    /// 0 uses one for each processor.
    #[arg(long, env = "SEGUE_ENGINE_THREADS", default_value_t = 0)]
    pub engine_threads: usize,
    /// Requests that may wait for a thread
    ///
    /// Further ones get a 503.
    #[arg(long, env = "SEGUE_ENGINE_QUEUE", default_value_t = 256)]
    pub engine_queue: usize,
    /// Maximum connections to PostgreSQL
    #[arg(long, env = "SEGUE_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_connections: u32,
    /// Another address for GET /metrics, without a key
    ///
    /// Expose it to the monitoring network only.
    #[arg(long, env = "SEGUE_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// Time to finish requests at shutdown
    ///
    /// In seconds.
    #[arg(long, env = "SEGUE_SHUTDOWN_SECONDS", allow_negative_numbers = true, default_value_t = 15.0, value_parser = seconds)]
    pub shutdown_seconds: f64,
    /// Lowest rating that POST /ratings accepts
    #[arg(long, env = "SEGUE_RATING_LOWEST", allow_negative_numbers = true, default_value_t = 0.5)]
    pub rating_lowest: f32,
    /// Highest rating that POST /ratings accepts
    #[arg(long, env = "SEGUE_RATING_HIGHEST", allow_negative_numbers = true, default_value_t = 5.0)]
    pub rating_highest: f32,
}

impl ServeSettings {
    /// Returns whether requests must carry an API key.
    pub fn needs_keys(&self) -> bool {
        match self.auth {
            AuthMode::Auto => !self.is_local(),
            AuthMode::Required => true,
            AuthMode::Off => false,
        }
    }

    /// Returns whether only programs on this machine can reach the server.
    pub fn is_local(&self) -> bool {
        self.listen.ip().is_loopback() && self.proxies == 0
    }

    /// Returns how long a client may be idle or too slow.
    pub fn idle(&self) -> Duration {
        Duration::from_secs_f64(self.idle_seconds)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate == 0.0 || (0.1..=1e6).contains(&rate) => Ok(rate),
        _ => Err("must be 0, or a number from 0.1 to 1000000".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds from 0.001 to 86400".to_owned()),
    }
}
