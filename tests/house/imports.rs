//! Which file of a crate imports which: from its `use` declarations and the paths in its code.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree, Visibility};

/// A file that names something of another file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// path of the file that imports
    pub from: String,
    /// path of the file where what is imported is defined
    pub to: String,
    /// what is imported, as an absolute path
    pub name: String,
}

/// The files of a crate.
pub struct Sources {
    /// path of the file by its module, such as `crate::serve::http`
    files: BTreeMap<String, String>,
    /// what is named in each file
    names: Vec<(String, Names)>,
}

/// What a file names.
#[derive(Default)]
struct Names {
    module: String,
    /// inline modules around what is visited
    depth: usize,
    /// local name to path, from `use`
    uses: HashMap<String, Vec<String>>,
    /// paths in declarations and code, and whether the declaration hands the name on (`pub use`)
    paths: Vec<(Vec<String>, bool)>,
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}

impl Names {
    fn flatten(&mut self, tree: &UseTree, mut prefix: Vec<String>, hands_on: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.flatten(&path.tree, prefix, hands_on);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.flatten(tree, prefix.clone(), hands_on);
                }
            }
            UseTree::Glob(_) => self.paths.push((prefix, hands_on)),
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                if name != "self" {
                    prefix.push(name);
                }
                let local = prefix.last().cloned().unwrap_or_default();
                self.declare(local, prefix, hands_on);
            }
            UseTree::Rename(rename) => {
                prefix.push(rename.ident.to_string());
                self.declare(rename.rename.to_string(), prefix, hands_on);
            }
        }
    }

    fn declare(&mut self, local: String, path: Vec<String>, hands_on: bool) {
        if self.depth == 0 && path.first() != Some(&local) {
            self.uses.insert(local, path.clone());
        }
        self.paths.push((path, hands_on));
    }
}

impl Visit<'_> for Names {
    fn visit_item_mod(&mut self, item: &ItemMod) {
        if item.content.is_some() && !is_for_tests(&item.attrs) {
            self.depth += 1;
            visit::visit_item_mod(self, item);
            self.depth -= 1;
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.flatten(&item.tree, Vec::new(), !matches!(item.vis, Visibility::Inherited));
        }
    }

    /// `pub(super)` says who may see an item; it imports nothing.
    fn visit_visibility(&mut self, _: &Visibility) {}

    fn visit_path(&mut self, path: &syn::Path) {
        self.paths.push((path.segments.iter().map(|segment| segment.ident.to_string()).collect(), false));
        visit::visit_path(self, path);
    }
}

impl Sources {
    /// Reads files, each given by its path (`src/…`) and its text.
    pub fn parse(files: impl Iterator<Item = (String, String)>) -> Self {
        let mut sources = Self { files: BTreeMap::new(), names: Vec::new() };
        for (file, text) in files {
            let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let module = module_of(&file);
            let mut names = Names { module: module.clone(), ..Names::default() };
            names.visit_file(&parsed);
            sources.files.insert(module, file.clone());
            sources.names.push((file, names));
        }
        sources
    }

    /// All imports between files, each once.
    pub fn imports(&self) -> Vec<Import> {
        let mut imports = BTreeSet::new();
        for (file, names) in &self.names {
            for (path, hands_on) in &names.paths {
                let Some(path) = self.absolute(names, path).filter(|path| path.len() > 1) else { continue };
                let Some((module, to)) = self.definition(&path, 0) else { continue };
                // A module that hands on what its own files define does not depend on them.
                let is_facade = *hands_on && module.starts_with(&format!("{}::", names.module));
                if to != *file && !is_facade {
                    imports.insert(Import { from: file.clone(), to, name: path.join("::") });
                }
            }
        }
        imports.into_iter().collect()
    }

    /// Files with the names of outside crates in them, each pair once.
    pub fn outside_crates(&self) -> Vec<(String, String)> {
        let mut crates = BTreeSet::new();
        for (file, names) in &self.names {
            for (path, _) in names.paths.iter().filter(|(path, _)| path.len() > 1) {
                if self.absolute(names, path).is_none() {
                    crates.insert((file.clone(), path[0].clone()));
                }
            }
        }
        crates.into_iter().collect()
    }

    /// The path from `crate` on; nothing for what other crates, or the language, define.
    fn absolute(&self, names: &Names, path: &[String]) -> Option<Vec<String>> {
        let here: Vec<String> = names.module.split("::").map(str::to_owned).collect();
        let first = path.first()?.as_str();
        match first {
            "crate" => Some(path.to_vec()),
            "self" => Some([&here[..], &path[1..]].concat()),
            "super" => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                // Within an inline module the first `super` leads to the file itself.
                let up = supers.saturating_sub(names.depth).min(here.len() - 1);
                Some([&here[..here.len() - up], &path[supers..]].concat())
            }
            _ if self.files.contains_key(&format!("{}::{first}", names.module)) => Some([&here[..], path].concat()),
            _ => match names.uses.get(first) {
                Some(used) => Some([&self.absolute(names, used)?[..], &path[1..]].concat()),
                None => None,
            },
        }
    }

    /// Module and file where a path leads, through the names that modules hand on.
    fn definition(&self, path: &[String], jumps: usize) -> Option<(String, String)> {
        if jumps > 16 {
            return None;
        }
        let mut module = "crate".to_owned();
        for (at, part) in path.iter().enumerate().skip(1) {
            let below = format!("{module}::{part}");
            if self.files.contains_key(&below) {
                module = below;
                continue;
            }
            let (_, names) = self.names.iter().find(|(_, names)| names.module == module)?;
            if let Some(used) = names.uses.get(part) {
                let handed = [&self.absolute(names, used)?[..], &path[at + 1..]].concat();
                return self.definition(&handed, jumps + 1);
            }
            break;
        }
        let file = self.files.get(&module)?.clone();
        Some((module, file))
    }
}

/// `crate::serve::http` for `src/serve/http/mod.rs` and for `src/serve/http.rs`.
fn module_of(file: &str) -> String {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let parts = path.split('/').filter(|part| !["mod", "lib"].contains(part));
    std::iter::once("crate").chain(parts).collect::<Vec<_>>().join("::")
}
