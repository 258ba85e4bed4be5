//! Vectors of tracks in the formats that notebooks and other programs read.
//!
//! * npy: float32 `[rows, dimensions]`, read by `numpy.load`.
//! * word2vec: the text format of the word2vec program, read by gensim's `KeyedVectors.load_word2vec_format`: a line of
//!   rows and dimensions, then a line a track with its id and its values, separated by spaces. White space in an id is
//!   percent-encoded there.
//! * parquet: a row a track, with its id, name, artist, placements, whether it is recommended, and its vector as a list of
//!   floats.
//!
//! Beside the first two, which have no place for names, stands `NAME.tracks.csv`: a row a track, in order of rows. Rows
//! are in the bundle's order.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::{Vocabulary, encode_array};

/// Tracks of a row group: some tens of megabytes.
const ROW_GROUP: usize = 50_000;

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// NumPy, with names beside it
    Npy,
    /// one table with everything
    Parquet,
    /// text, with names beside it
    Word2Vec,
}

/// What a track is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportName {
    /// its title, if known
    pub name: Option<String>,
    /// its artist, if known
    pub artist: Option<String>,
}

/// Vectors of N tracks and what is known of each.
#[derive(Debug)]
pub struct EmbeddingTable<'a> {
    /// the app's ids of the rows
    pub vocabulary: &'a Vocabulary,
    /// `[N, dimensions]`
    pub vectors: &'a [f32],
    /// length of a vector
    pub dimensions: usize,
    /// `[N]`: how often each occurs
    pub counts: Vec<u32>,
    /// rows 0..candidates are recommended; the others are too rare to be
    pub candidates: usize,
    /// `[N]`: what each is called
    pub names: Vec<ExportName>,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// the file
        path: PathBuf,
        /// the reason
        source: io::Error,
    },
    /// The Parquet file could not be made.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// the file
        path: PathBuf,
        /// the reason
        source: ParquetError,
    },
    /// Two ids are the same once their white space is encoded.
    #[error("two tracks would both be called {id:?} in the word2vec format; export as parquet or npy")]
    SameWord {
        /// the id as it would be written
        id: String,
    },
}

/// A file that comes into being whole: written beside its place, then renamed.
struct Unfinished {
    place: PathBuf,
    path: PathBuf,
    writer: BufWriter<File>,
}

impl Unfinished {
    fn create(place: &Path) -> Result<Self, ExportError> {
        let io = |source| ExportError::Io { path: place.to_owned(), source };
        let name = place.file_name().ok_or_else(|| io(io::Error::other("not a file name")))?;
        let path = place.with_file_name(format!(".{}.unfinished", name.to_string_lossy()));
        let writer = BufWriter::new(File::create(&path).map_err(io)?);
        Ok(Self { place: place.to_owned(), path, writer })
    }

    fn io(&self) -> impl Fn(io::Error) -> ExportError + use<> {
        let path = self.place.clone();
        move |source| ExportError::Io { path: path.clone(), source }
    }

    fn finish(mut self) -> Result<(), ExportError> {
        let io = self.io();
        self.writer.flush().map_err(&io)?;
        self.writer.get_ref().sync_all().map_err(&io)?;
        fs::rename(&self.path, &self.place).map_err(&io)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // once renamed, it is not there
    }
}

/// Where the names of `out` are: `vectors.tracks.csv` for `vectors.npy`.
pub fn names_file(out: &Path) -> PathBuf {
    out.with_extension("tracks.csv")
}

/// Writes `table` at `out`, in the place of what was there, whole or not at all; the files written, `out` first.
///
/// # Errors
///
/// When a file can't be written; what was there before is then still there.
pub fn export_embeddings(
    table: &EmbeddingTable<'_>,
    format: ExportFormat,
    out: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let mut file = Unfinished::create(out)?;
    match format {
        ExportFormat::Npy => {
            let array = encode_array(&[table.vocabulary.len(), table.dimensions], table.vectors);
            let io = file.io();
            file.writer.write_all(&array).map_err(io)?;
        }
        ExportFormat::Word2Vec => write_word2vec(table, &mut file)?,
        ExportFormat::Parquet => {
            write_parquet(table, &mut file.writer)
                .map_err(|source| ExportError::Parquet { path: out.to_owned(), source })?;
            file.finish()?;
            return Ok(vec![out.to_owned()]);
        }
    }
    let names = names_file(out);
    let mut names_beside = Unfinished::create(&names)?;
    write_names(table, &mut names_beside)?;
    names_beside.finish()?;
    file.finish()?;
    Ok(vec![out.to_owned(), names])
}

fn write_names(table: &EmbeddingTable<'_>, file: &mut Unfinished) -> Result<(), ExportError> {
    let io = file.io();
    let mut writer = csv::Writer::from_writer(&mut file.writer);
    let write = |writer: &mut csv::Writer<_>| -> Result<(), csv::Error> {
        writer.write_record(["row", "track_id", "name", "artist", "placements", "recommended"])?;
        for (row, (name, count)) in (0u32..).zip(table.names.iter().zip(&table.counts)) {
            writer.write_record([
                row.to_string().as_str(),
                table.vocabulary.id(row),
                name.name.as_deref().unwrap_or_default(),
                name.artist.as_deref().unwrap_or_default(),
                count.to_string().as_str(),
                if (row as usize) < table.candidates { "true" } else { "false" },
            ])?;
        }
        Ok(writer.flush()?)
    };
    write(&mut writer).map_err(|error| io(error.into()))
}

/// An id as one word: its white space percent-encoded.
fn word(id: &str) -> String {
    let mut word = String::with_capacity(id.len());
    for character in id.chars() {
        if character.is_whitespace() || character.is_control() {
            let mut buffer = [0; 4];
            word.extend(character.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            word.push(character);
        }
    }
    word
}

fn write_word2vec(table: &EmbeddingTable<'_>, file: &mut Unfinished) -> Result<(), ExportError> {
    let io = file.io();
    let rows = table.vocabulary.len();
    let mut encoded: HashSet<String> = HashSet::new();
    writeln!(file.writer, "{rows} {}", table.dimensions).map_err(&io)?;
    for (row, vector) in (0..rows as u32).zip(table.vectors.chunks_exact(table.dimensions)) {
        let id = table.vocabulary.id(row);
        let word = word(id);
        if word != id && (table.vocabulary.row(&word).is_some() || !encoded.insert(word.clone())) {
            return Err(ExportError::SameWord { id: word });
        }
        file.writer.write_all(word.as_bytes()).map_err(&io)?;
        for value in vector {
            write!(file.writer, " {value}").map_err(&io)?;
        }
        file.writer.write_all(b"\n").map_err(&io)?;
    }
    Ok(())
}

fn write_parquet(table: &EmbeddingTable<'_>, file: &mut (impl Write + Send)) -> Result<(), ParquetError> {
    let schema = parse_message_type(
        "message embeddings {
            required binary track_id (STRING);
            optional binary name (STRING);
            optional binary artist (STRING);
            required int32 placements (INTEGER(32, false));
            required boolean recommended;
            required group vector (LIST) { repeated group list { required float element; } }
        }",
    )?;
    // Few values of vectors occur twice.
    let vectors = ColumnPath::new(["vector", "list", "element"].map(str::to_owned).to_vec());
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(vectors, false)
        .build();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
    let rows = table.vocabulary.len();
    for begin in (0..rows).step_by(ROW_GROUP) {
        let rows = begin..(begin + ROW_GROUP).min(rows);
        let mut group = writer.next_row_group()?;
        write_row_group(table, rows, &mut group)?;
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

fn write_row_group<W: Write + Send>(
    table: &EmbeddingTable<'_>,
    rows: std::ops::Range<usize>,
    group: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<(), ParquetError> {
    let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
    for column in 0.. {
        let Some(mut writer) = group.next_column()? else { break };
        match (writer.untyped(), column) {
            (ColumnWriter::ByteArrayColumnWriter(writer), 0) => {
                let ids: Vec<ByteArray> = rows.clone().map(|row| text(table.vocabulary.id(row as u32))).collect();
                writer.write_batch(&ids, None, None)?;
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), _) => {
                let names: Vec<Option<&str>> = table.names[rows.clone()]
                    .iter()
                    .map(|name| if column == 1 { name.name.as_deref() } else { name.artist.as_deref() })
                    .collect();
                let levels: Vec<i16> = names.iter().map(|name| name.is_some().into()).collect();
                let values: Vec<ByteArray> = names.into_iter().flatten().map(text).collect();
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (ColumnWriter::Int32ColumnWriter(writer), _) => {
                // An unsigned integer is stored as the signed one of the same bits.
                let counts: Vec<i32> = table.counts[rows.clone()].iter().map(|&count| count as i32).collect();
                writer.write_batch(&counts, None, None)?;
            }
            (ColumnWriter::BoolColumnWriter(writer), _) => {
                let recommended: Vec<bool> = rows.clone().map(|row| row < table.candidates).collect();
                writer.write_batch(&recommended, None, None)?;
            }
            (ColumnWriter::FloatColumnWriter(writer), _) => {
                let values = &table.vectors[rows.start * table.dimensions..rows.end * table.dimensions];
                // Every list has values; each begins with repetition level 0.
                let definition = vec![1; values.len()];
                let repetition: Vec<i16> =
                    (0..values.len()).map(|place| i16::from(place % table.dimensions != 0)).collect();
                writer.write_batch(values, Some(&definition), Some(&repetition))?;
            }
            _ => return Err(ParquetError::General(format!("column {column} is of another type"))),
        }
        writer.close()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(vocabulary: &Vocabulary) -> EmbeddingTable<'_> {
        EmbeddingTable {
            vectors: &[1.0, 0.5, -0.25, 1e-9],
            dimensions: 2,
            counts: vec![9, 1],
            candidates: 1,
            names: vec![
                ExportName { name: Some("One, \"two\"".to_owned()), artist: Some("A".to_owned()) },
                ExportName::default(),
            ],
            vocabulary,
        }
    }

    #[test]
    fn word2vec_is_words_and_numbers_with_white_space_encoded_and_names_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("vectors.txt");
        let vocabulary = Vocabulary::new(["t: 1", "é"].into_iter()).expect("distinct");
        let files = export_embeddings(&table(&vocabulary), ExportFormat::Word2Vec, &out).expect("written");
        assert_eq!(files, [out.clone(), folder.path().join("vectors.tracks.csv")]);
        assert_eq!(fs::read_to_string(&out).expect("a file"), "2 2\nt:%201 1 0.5\né -0.25 0.000000001\n");
        assert_eq!(
            fs::read_to_string(&files[1]).expect("a file"),
            "row,track_id,name,artist,placements,recommended\n0,t: 1,\"One, \"\"two\"\"\",A,9,true\n1,é,,,1,false\n"
        );
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing else is left");
    }

    #[test]
    fn two_ids_that_would_be_one_word_are_refused_and_what_was_there_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("vectors.txt");
        fs::write(&out, "before").expect("written");
        let vocabulary = Vocabulary::new(["t 1", "t%201"].into_iter()).expect("distinct");
        let error = export_embeddings(&table(&vocabulary), ExportFormat::Word2Vec, &out).expect_err("refused");
        assert!(error.to_string().contains("\"t%201\""), "{error}");
        assert_eq!(fs::read_to_string(&out).expect("a file"), "before");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "something was left behind");
    }

    #[test]
    fn parquet_reads_back_with_its_own_reader() {
        use parquet::file::reader::{FileReader, SerializedFileReader};

        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("vectors.parquet");
        let vocabulary = Vocabulary::new(["t:1", "é"].into_iter()).expect("distinct");
        export_embeddings(&table(&vocabulary), ExportFormat::Parquet, &out).expect("written");
        let reader = SerializedFileReader::new(File::open(&out).expect("a file")).expect("Parquet");
        let rows: Vec<String> =
            reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row").to_string()).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains("t:1") && rows[0].contains("placements: 9") && rows[0].contains("true"), "{rows:?}");
        assert!(rows[1].contains("name: null") && rows[1].contains("vector: [-2.5E-1, 0.000000001]"), "{rows:?}");
    }
}
