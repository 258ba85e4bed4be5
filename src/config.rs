//! Where settings come from: flags, then environment variables, then a file, then defaults.
//!
//! Every setting is declared once, as an argument of the command line with its documentation and its default. The file
//! (`segue.toml`, or `--config`) gives other defaults: its tables are named as the subcommands are, its keys as the
//! flags, with `_` or `-`. What several commands must agree on stands at the top, for all of them: the scale of ratings.
//!
//! ```toml
//! database_url = "postgres://segue@db/segue"
//! rating_highest = 10
//!
//! [train.similarity]
//! dim = 128
//! ```

use std::path::{Path, PathBuf};

use clap::{Arg, Command, Id};
use toml::{Table, Value};

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// the file
        path: PathBuf,
        /// the reason
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// the file
        path: PathBuf,
        /// what is wrong and where
        message: String,
    },
    /// It sets something that does not exist.
    #[error("{}: there is no setting {key:?}", path.display())]
    Unknown {
        /// the file
        path: PathBuf,
        /// path of the key
        key: String,
    },
    /// It sets something to a value of no use.
    #[error("{}: {key:?} must be a text, a number, true or false, or a list of these", path.display())]
    Type {
        /// the file
        path: PathBuf,
        /// path of the key
        key: String,
    },
}

/// Reads a configuration file.
pub fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    text.parse()
        .map_err(|error: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), message: error.to_string() })
}

/// Gives `command` the defaults that `file`, read from `path`, has for it and its subcommands.
pub fn with_defaults(command: Command, path: &Path, file: &Table) -> Result<Command, ConfigError> {
    let (mut own, mut command) = (file.clone(), command);
    for key in SHARED {
        let Some((key, value)) = own.remove_entry(key).or_else(|| own.remove_entry(&key.replace('_', "-"))) else {
            continue;
        };
        let values = texts(&value).ok_or_else(|| ConfigError::Type { path: path.to_owned(), key: key.clone() })?;
        command = share(command, &key.replace('_', "-"), &values);
    }
    apply(command, path, &own, "")
}

/// Settings at the top of the file that several commands have.
const SHARED: [&str; 2] = ["rating_lowest", "rating_highest"];

/// Gives every subcommand that has the option, or calls it so too, a default for it.
fn share(command: Command, long: &str, values: &[String]) -> Command {
    let found = command.get_arguments().find(|argument| {
        argument.get_long() == Some(long) || argument.get_all_aliases().unwrap_or_default().contains(&long)
    });
    let command = match found.map(|argument| argument.get_id().clone()) {
        Some(id) => in_place(command, &id, |argument| argument.default_values(values.to_vec())),
        None => command,
    };
    command.mut_subcommands(|one| share(one, long, values))
}

/// Changes an argument where it stands; clap's `mut_arg` moves it to the end.
fn in_place(command: Command, id: &Id, change: impl Fn(Arg) -> Arg) -> Command {
    command.mut_args(|argument| if argument.get_id() == id { change(argument) } else { argument })
}

fn apply(mut command: Command, path: &Path, table: &Table, prefix: &str) -> Result<Command, ConfigError> {
    // A command that takes anything belongs to another build of the program, and so do its settings: a server and a
    // trainer may share a file.
    if command.get_positionals().any(Arg::is_trailing_var_arg_set) {
        return Ok(command);
    }
    for (key, value) in table {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let unknown = || ConfigError::Unknown { path: path.to_owned(), key: full.clone() };
        if let Value::Table(table) = value {
            let name = key.replace('_', "-");
            let subcommand = command.find_subcommand(&name).ok_or_else(unknown)?.clone();
            let changed = apply(subcommand, path, table, &full)?;
            // Where it stands: `mut_subcommand` moves it to the end.
            command = command.mut_subcommands(|one| if one.get_name() == name { changed.clone() } else { one });
            continue;
        }
        let long = key.replace('_', "-");
        let id = command.get_arguments().find(|argument| argument.get_long() == Some(&long)).ok_or_else(unknown)?;
        let id = id.get_id().clone();
        let values = texts(value).ok_or_else(|| ConfigError::Type { path: path.to_owned(), key: full.clone() })?;
        command = in_place(command, &id, |argument| argument.default_values(values.clone()).required(false));
    }
    Ok(command)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    Some(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Boolean(flag) => vec![flag.to_string()],
        Value::Array(values) => values
            .iter()
            .map(|value| texts(value).filter(|texts| texts.len() == 1))
            .collect::<Option<Vec<_>>>()?
            .concat(),
        Value::Datetime(_) | Value::Table(_) => return None,
    })
}

/// The settings in force, as a file that would set them so; secrets are left out. Flags of this very run don't count.
pub fn effective(command: &Command) -> String {
    let mut output = String::new();
    write_table(command, "", &mut output);
    output
}

fn write_table(command: &Command, prefix: &str, output: &mut String) {
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some_and(|long| !["help", "version", "config"].contains(&long)))
        .filter(|argument| prefix.is_empty() || !argument.is_global_set())
        .collect();
    if !prefix.is_empty() && !arguments.is_empty() {
        output.push_str(&format!("\n[{prefix}]\n"));
    }
    for argument in arguments {
        let Some(long) = argument.get_long() else { continue };
        let key = long.replace('-', "_");
        let from_environment = argument.get_env().and_then(std::env::var_os);
        let values: Vec<String> = match from_environment {
            Some(value) => vec![value.to_string_lossy().into_owned()],
            None => argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect(),
        };
        match values.as_slice() {
            [] => output.push_str(&format!("# {key} is not set\n")),
            [value] => {
                let shown = redact(&key, value);
                // A URL without its password would not connect; as a comment it still says where to.
                let mark = if shown == *value { "" } else { "# " };
                for line in format!("{key} = {}", literal(&shown)).lines() {
                    output.push_str(&format!("{mark}{line}\n"));
                }
            }
            values => {
                let literals: Vec<String> = values.iter().map(|value| literal(value)).collect();
                output.push_str(&format!("{key} = [{}]\n", literals.join(", ")));
            }
        }
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let name = subcommand.get_name();
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        write_table(subcommand, &path, output);
    }
}

/// Writes a value without quotes where TOML reads the same from it, so not `.5` or `NaN`.
fn literal(value: &str) -> String {
    let is_plain = value.parse::<Value>().is_ok_and(|parsed| match parsed {
        Value::Integer(_) | Value::Boolean(_) => parsed.to_string() == value,
        Value::Float(number) => number.is_finite() && parsed.to_string() == value,
        _ => false,
    });
    if is_plain { value.to_owned() } else { Value::String(value.to_owned()).to_string() }
}

/// Takes the password out of a URL, wherever it may stand in it.
fn redact(key: &str, value: &str) -> String {
    if key != "database_url" {
        return value.to_owned();
    }
    let Some((scheme, rest)) = value.split_once("://") else { return "(redacted)".to_owned() };
    let (rest, parameters) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?(redacted)"),
        None => (rest, ""),
    };
    match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:(redacted)@{host}{parameters}")
        }
        None => format!("{scheme}://{rest}{parameters}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `segue train similarity` makes of its arguments and a file.
    fn dim(arguments: &[&str], file: &str) -> Result<u32, ConfigError> {
        let dim = Arg::new("dim").long("dim").default_value("64").value_parser(clap::value_parser!(u32));
        let similarity = Command::new("similarity").arg(dim);
        let command = Command::new("segue").subcommand(Command::new("train").subcommand(similarity));
        let command = with_defaults(command, Path::new("segue.toml"), &file.parse().expect("TOML"))?;
        let matches = command.get_matches_from(arguments);
        let train = matches.subcommand_matches("train").expect("the subcommand");
        Ok(*train.subcommand_matches("similarity").expect("the subcommand").get_one("dim").expect("a default"))
    }

    #[test]
    fn a_flag_outweighs_the_file_and_the_file_the_default() {
        let train = ["segue", "train", "similarity"];
        assert_eq!(dim(&train, "").expect("valid"), 64);
        assert_eq!(dim(&train, "[train.similarity]\ndim = 12").expect("valid"), 12);
        let with_flag = ["segue", "train", "similarity", "--dim", "9"];
        assert_eq!(dim(&with_flag, "[train.similarity]\ndim = 12").expect("valid"), 9);
    }

    #[test]
    fn a_setting_of_several_commands_is_made_once() {
        let scale = |long: &'static str| Arg::new("highest").long(long).alias("rating-highest").default_value("5");
        let command = Command::new("segue")
            .subcommand(Command::new("import").subcommand(Command::new("ratings").arg(scale("highest"))))
            .subcommand(Command::new("serve").arg(scale("rating-highest")));
        let file = "rating_highest = 10\n[serve]\nrating_highest = 7".parse().expect("TOML");
        let command = with_defaults(command, Path::new("segue.toml"), &file).expect("valid");
        let shown = effective(&command);
        assert!(shown.contains("[import.ratings]\nhighest = 10\n"), "{shown}");
        assert!(shown.contains("[serve]\nrating_highest = 7\n"), "the command's own setting is nearer: {shown}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = dim(&["segue", "train", "similarity"], "[train.similarity]\ndims = 1").expect_err("unknown");
        assert_eq!(error.to_string(), "segue.toml: there is no setting \"train.similarity.dims\"");
    }

    #[test]
    fn settings_of_a_command_of_another_build_are_skipped() {
        let anything = Arg::new("anything").num_args(0..).trailing_var_arg(true);
        let command = Command::new("segue").subcommand(Command::new("train").arg(anything));
        let file = |text: &str| text.parse().expect("TOML");
        let path = Path::new("segue.toml");
        assert!(with_defaults(command.clone(), path, &file("[train.similarity]\ndim = 12")).is_ok());
        assert!(with_defaults(command, path, &file("[serve]\nlisten = \"0.0.0.0:80\"")).is_err());
    }

    #[test]
    fn a_url_of_several_lines_is_a_comment_to_its_end() {
        let command = Command::new("segue").arg(Arg::new("database_url").long("database-url").default_value("unset"));
        let file = "database_url = \"postgres://u:secret@h/a\\nb\"".parse().expect("TOML");
        let shown = effective(&with_defaults(command, Path::new("segue.toml"), &file).expect("valid"));
        assert!(shown.contains("(redacted)@h/a"), "{shown}");
        assert_eq!(shown.parse::<Table>().expect("TOML"), Table::new(), "{shown}");
    }

    #[test]
    fn numbers_are_printed_as_toml_writes_them_or_as_texts() {
        for plain in ["7", "-1", "0.5", "true"] {
            assert_eq!(literal(plain), plain);
        }
        for text in ["NaN", "nan", "inf", ".5", "5.", "007", "1_000", "1 # one", "", "99999999999999999999"] {
            assert_eq!(literal(text), format!("\"{text}\""));
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        assert_eq!(
            redact("database_url", "postgres://u:p@ss@h/d?password=x"),
            "postgres://u:(redacted)@h/d?(redacted)"
        );
        assert_eq!(redact("database_url", "postgres://h/d"), "postgres://h/d");
    }
}
