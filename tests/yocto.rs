//! The Yocto layers (`yocto-layer`) against the tree that they build: what recipes name is there, lists are equal, names agree. How
//! they are written is what `tests/yocto` looks at, and what bitbake itself has to say is bitbake's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hil_tests::tool;

/// The Rust of the one release that the layers claim.
const RUST_OF_WRYNOSE: (u32, u32) = (1, 94);
/// Collections of other projects that ours may depend on.
const FOREIGN: [&str; 5] = ["core", "rauc", "networking-layer", "freescale-layer", "raspberrypi"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn toml(name: &str) -> toml::Table {
    text(&root().join(name)).parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every file of the layers, sorted.
fn files() -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![root().join("yocto-layer")]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

/// Recipes, and what is added to recipes of others.
fn recipes() -> Vec<PathBuf> {
    files().into_iter().filter(|path| matches!(ending(path), "bb" | "bbappend" | "inc")).collect()
}

/// The layer that a file is in.
fn layer_of(path: &Path) -> &Path {
    path.ancestors()
        .find(|up| up.join("conf/layer.conf").exists())
        .unwrap_or_else(|| panic!("{}: of no layer", path.display()))
}

/// What a recipe is called: its file's name up to the version.
fn name_of(recipe: &Path) -> &str {
    let stem = recipe.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    stem.split('_').next().unwrap_or(stem)
}

/// Assignments of a file of bitbake's, with lines that go on joined, and comments and functions left out.
fn assignments(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.starts_with(['#', ' ', '\t', '}']));
    let assigned = lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim_end_matches([' ', '?', '+', ':', '.']).trim_start_matches("export ");
        let value = value.trim_start_matches(['.', '+']).trim();
        let value = value.strip_prefix(['"', '\'']).and_then(|value| value.strip_suffix(['"', '\'']))?;
        Some((name.to_owned(), value.to_owned()))
    });
    assigned.collect()
}

/// The value of a variable in a file, the last one.
fn value(path: &Path, name: &str) -> Option<String> {
    assignments(&text(path)).into_iter().rev().find(|(assigned, _)| assigned == name).map(|(_, value)| value)
}

#[test]
fn the_crates_of_the_recipe_are_those_of_the_lock_file() {
    let lock = toml("Cargo.lock");
    let packages = lock["package"].as_array().expect("packages");
    let field = |package: &toml::Value, name: &str| package[name].as_str().expect("a text").to_owned();
    let mut wanted = BTreeMap::new();
    for package in packages.iter().filter(|package| package.get("source").is_some()) {
        let key = (field(package, "name"), field(package, "version"));
        assert!(field(package, "source").contains("crates.io-index"), "{key:?} is not from crates.io");
        wanted.insert(key, field(package, "checksum"));
    }
    assert!(wanted.len() > 100, "{} crates", wanted.len());

    let listed = text(&root().join("yocto-layer/meta-v2g-edge/recipes-core/v2g-edge/v2g-edge-crates.inc"));
    let fetched: BTreeSet<(String, String)> = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("crate://crates.io/")?.strip_suffix(" \\")?.rsplit_once('/'))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    assert_eq!(fetched, wanted.keys().cloned().collect(), "what is fetched: yocto-layer/scripts/crates");
    let checked: BTreeMap<String, String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("SRC_URI[")?.strip_suffix('"')?.split_once(".sha256sum] = \""))
        .map(|(key, sum)| (key.to_owned(), sum.to_owned()))
        .collect();
    let sums = wanted.into_iter().map(|((name, version), sum)| (format!("{name}-{version}"), sum)).collect();
    assert_eq!(checked, sums, "the checksums: yocto-layer/scripts/crates");
}

#[test]
fn the_version_the_feature_and_the_rust_are_those_of_the_workspace() {
    let cargo = toml("Cargo.toml");
    let package = &cargo["workspace"]["package"];
    let version = package["version"].as_str().expect("a version");
    let ours: Vec<PathBuf> = recipes().into_iter().filter(|path| name_of(path).starts_with("v2g-edge")).collect();
    for recipe in ours.iter().filter(|path| ending(path) == "bb" && !name_of(path).starts_with("v2g-edge-image")) {
        assert!(recipe.ends_with(format!("{}_{version}.bb", name_of(recipe))), "{}: not {version}", recipe.display());
    }
    let distro = root().join("yocto-layer/meta-v2g-edge-distro/conf/distro/v2g-edge-os.conf");
    assert_eq!(value(&distro, "DISTRO_VERSION").as_deref(), Some(version));

    let recipe = root().join(format!("yocto-layer/meta-v2g-edge/recipes-core/v2g-edge/v2g-edge_{version}.bb"));
    let flags = value(&recipe, "CARGO_BUILD_FLAGS:append").expect("flags");
    assert!(flags.contains("--no-default-features --features firmware"), "{flags}");
    assert!(cargo["features"].get("firmware").is_some(), "there is no feature `firmware`");

    let (major, minor) =
        package["rust-version"].as_str().and_then(|rust| rust.split_once('.')).expect("a rust-version");
    let rust = (major.parse().expect("a number"), minor.split('.').next().expect("a part").parse().expect("a number"));
    assert!(rust <= RUST_OF_WRYNOSE, "{rust:?}: wrynose has {RUST_OF_WRYNOSE:?}");
}

#[test]
fn a_workspace_of_what_the_recipe_fetches_is_one_that_cargo_takes() {
    let recipe = root().join("yocto-layer/meta-v2g-edge/recipes-core/v2g-edge");
    let recipe = recipes()
        .into_iter()
        .find(|path| path.starts_with(&recipe) && name_of(path) == "v2g-edge" && ending(path) == "bb");
    let fetched = tempfile::tempdir().expect("a directory");
    for source in sources(&text(&recipe.expect("the recipe"))) {
        let to = fetched.path().join(&source);
        fs::create_dir_all(to.parent().expect("in a directory")).expect("made");
        tool::run(Command::new("cp").arg("-r").arg(root().join(&source)).arg(&to)).expect("copied");
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"]).current_dir(fetched.path());
    tool::run(&mut cargo).expect("cargo takes it");
}

/// The local files that SRC_URI names, without their parameters.
fn sources(text: &str) -> Vec<String> {
    let uris = assignments(text).into_iter().filter(|(name, _)| name.split(':').next() == Some("SRC_URI"));
    let entries: Vec<String> =
        uris.flat_map(|(_, value)| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    let files = entries.iter().filter_map(|entry| entry.strip_prefix("file://")?.split(';').next());
    files.map(str::to_owned).collect()
}

/// Where bitbake looks for the local files of a recipe.
fn search_path(recipe: &Path, text: &str) -> Vec<PathBuf> {
    let beside = recipe.parent().expect("in a directory");
    let mut path = vec![beside.join("files"), beside.join(name_of(recipe))];
    if text.contains("v2g_edge_tree") {
        path.push(root().to_path_buf());
    }
    for (name, value) in assignments(text) {
        if name.starts_with("FILESEXTRAPATHS") {
            let value = value.trim_end_matches(':').replace("${THISDIR}", &beside.display().to_string());
            path.push(value.replace("${V2G_EDGE_TREE}", &root().display().to_string()).into());
        }
    }
    path
}

/// What a recipe takes of `configs/system` when it installs, and of itself.
fn installed(text: &str) -> Vec<String> {
    let words = text.split([' ', '\n', ';']).map(|word| word.trim_matches('"'));
    let taken = words.filter_map(|word| {
        let below_system = word.strip_prefix("$system/").map(|rest| format!("configs/system/{rest}"));
        below_system.or_else(|| word.strip_prefix("${S}/configs/").map(|rest| format!("configs/{rest}")))
    });
    taken.collect()
}

#[test]
fn every_file_that_a_recipe_names_is_there() {
    let mut named = 0;
    for recipe in recipes() {
        let text = text(&recipe);
        let path = search_path(&recipe, &text);
        for source in sources(&text).into_iter().filter(|source| !source.contains("${") && !source.starts_with('\'')) {
            named += 1;
            assert!(path.iter().any(|directory| directory.join(&source).exists()), "{}: {source}", recipe.display());
        }
        for taken in installed(&text) {
            named += 1;
            let (directory, file) = taken.rsplit_once('/').expect("a directory");
            let there = match file.strip_prefix('*') {
                Some(suffix) => fs::read_dir(root().join(directory)).is_ok_and(|mut all| {
                    all.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(suffix)))
                }),
                None => root().join(&taken).exists(),
            };
            assert!(there, "{}: {taken}", recipe.display());
        }
        for required in text.lines().filter_map(|line| line.strip_prefix("require ")) {
            let required = required.replace("${BPN}", name_of(&recipe));
            let beside = recipe.with_file_name(&required);
            let in_ours = root().join("yocto-layer/meta-v2g-edge").join(&required);
            assert!(beside.exists() || in_ours.exists(), "{}: {required}", recipe.display());
        }
    }
    assert!(named > 40, "{named} files are named");
}

#[test]
fn every_unit_that_a_recipe_enables_is_one_that_it_installs() {
    let mut enabled = BTreeSet::new();
    for recipe in recipes() {
        let text = text(&recipe);
        let services = assignments(&text).into_iter().filter(|(name, _)| name.starts_with("SYSTEMD_SERVICE:"));
        for unit in services.flat_map(|(_, value)| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()) {
            enabled.insert(unit.clone());
            let shipped = root().join("configs/system/systemd").join(&unit);
            let beside = recipe.parent().expect("in a directory").join("files").join(&unit);
            let file = [shipped, beside].into_iter().find(|file| file.exists());
            let file = file.unwrap_or_else(|| panic!("{}: {unit} is nowhere", recipe.display()));
            assert!(self::text(&file).contains("\n[Install]\n"), "{unit} has nothing to be enabled by");
            let by_pattern = text.contains("${S}/*.mount") && ending(Path::new(&unit)) == "mount";
            assert!(by_pattern || text.contains(&format!("$system/systemd/{unit}")), "{}: {unit}", recipe.display());
        }
    }
    let entries = fs::read_dir(root().join("configs/system/systemd")).expect("units");
    for entry in entries.map(|entry| entry.expect("an entry").path()).filter(|path| ending(path) == "service") {
        let unit = entry.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(enabled.contains(unit), "{unit} is in no recipe");
    }
    assert!(enabled.len() > 5, "{enabled:?}");
}

#[test]
fn the_licence_is_the_one_that_recipes_have_the_checksum_of() {
    let sum = tool::run(Command::new("md5sum").arg(root().join("LICENSE"))).expect("md5sum");
    let sum = sum.split_whitespace().next().expect("a sum");
    let mut checked = 0;
    for recipe in recipes() {
        if let Some(licence) = value(&recipe, "LIC_FILES_CHKSUM") {
            checked += 1;
            assert_eq!(licence, format!("file://LICENSE;md5={sum}"), "{}", recipe.display());
        }
    }
    assert!(checked > 3, "{checked} recipes");
    assert_eq!(text(&root().join("yocto-layer/COPYING")), text(&root().join("LICENSE")));
}

#[test]
fn a_fragment_has_settings_only_and_no_two_of_a_board_disagree() {
    let known = |value: &str| {
        matches!(value, "y" | "m" | "n")
            || value.parse::<i32>().is_ok()
            || value.len() > 1 && value.starts_with('"') && value.ends_with('"')
    };
    let symbol = |name: &str| {
        name.strip_prefix("CONFIG_").is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
    };
    let fragments: Vec<PathBuf> = files().into_iter().filter(|path| ending(path) == "cfg").collect();
    assert!(fragments.len() > 10, "{fragments:?}");
    let mut settings: BTreeMap<(bool, String), (String, PathBuf)> = BTreeMap::new();
    for fragment in fragments {
        for line in text(&fragment).lines().filter(|line| !line.is_empty()) {
            let unset = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set"));
            let (name, value) = match unset {
                Some(name) => (name, "n"),
                None if line.starts_with("# ") || line == "#" => continue,
                None => line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", fragment.display())),
            };
            assert!(symbol(name) && known(value), "{}: {line}", fragment.display());
            let of_uboot = fragment.components().any(|part| part.as_os_str() == "u-boot");
            let earlier = settings.insert((of_uboot, name.to_owned()), (value.to_owned(), fragment.clone()));
            if let Some((other, where_)) = earlier {
                assert_eq!(other, value, "{name}: {} and {}", where_.display(), fragment.display());
            }
        }
    }
    for needed in
        ["CAN_RAW", "CAN_VCAN", "CAN_MCP251XFD", "CAN_FLEXCAN", "CAN_M_CAN", "CAN_SJA1000", "DM_VERITY", "SQUASHFS"]
    {
        assert!(settings.contains_key(&(false, format!("CONFIG_{needed}"))), "{needed}");
    }
}

#[test]
fn a_layer_names_itself_its_release_and_what_it_depends_on() {
    let confs: Vec<PathBuf> = files().into_iter().filter(|path| path.ends_with("conf/layer.conf")).collect();
    let collection = |path: &Path| value(path, "BBFILE_COLLECTIONS").expect("a collection");
    let ours: BTreeSet<String> = confs.iter().map(|path| collection(path)).collect();
    assert_eq!(ours.len(), 5, "{ours:?}");
    for conf in &confs {
        let name = collection(conf);
        let of = |variable: &str| {
            value(conf, &format!("{variable}_{name}")).unwrap_or_else(|| panic!("{}: {variable}", conf.display()))
        };
        assert_eq!(of("BBFILE_PATTERN"), "^${LAYERDIR}/");
        assert_eq!(of("LAYERSERIES_COMPAT"), "wrynose");
        assert!(of("LAYERVERSION").parse::<u32>().is_ok());
        let dependencies = of("LAYERDEPENDS");
        assert!(dependencies.split(' ').any(|layer| layer == "core"), "{name}");
        for dependency in dependencies.split(' ') {
            assert!(ours.contains(dependency) || FOREIGN.contains(&dependency), "{name}: {dependency}");
        }
        let layer = layer_of(conf);
        let readme = text(&layer.join("README.md"));
        assert!(
            readme.contains("Maintainer:") && readme.contains('@') && readme.contains("Patches:"),
            "{}",
            layer.display()
        );
        // yocto-check-layer: a distro and a machine in one layer decide for each other.
        assert!(!(layer.join("conf/distro").exists() && layer.join("conf/machine").exists()), "{}", layer.display());
    }
}

/// The names that recipes and configurations are overridden by.
fn overrides() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files() {
        let stem = || file.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let path = file.display().to_string();
        if path.contains("/conf/machine/") {
            names.insert(stem());
            let ours = value(&file, "MACHINEOVERRIDES").expect("overrides");
            names.extend(ours.split(':').filter(|name| name.starts_with("v2g-edge")).map(str::to_owned));
        } else if path.contains("/conf/distro/") {
            assert_eq!(value(&file, "DISTRO"), Some(stem()));
            names.insert(stem());
        }
    }
    names
}

#[test]
fn no_distro_and_no_machine_is_called_like_a_recipe() {
    let names: BTreeSet<String> =
        recipes().iter().filter(|path| ending(path) == "bb").map(|path| name_of(path).to_owned()).collect();
    let overrides = overrides();
    assert!(overrides.len() == 5 && names.len() > 8, "{overrides:?} {names:?}");
    assert!(names.is_disjoint(&overrides), "bitbake stops at {:?}", names.intersection(&overrides));
}

#[test]
fn what_is_added_to_recipes_of_others_holds_for_our_machines_and_distro_alone() {
    let overrides = overrides();
    let guarded = |name: &str| name.split(':').any(|part| overrides.contains(part));
    let others = recipes().into_iter().filter(|path| {
        ending(path) == "bbappend" || name_of(path).ends_with("-linux") || name_of(path).ends_with("-u-boot")
    });
    let mut additions = 0;
    for recipe in others {
        for (name, _) in assignments(&text(&recipe)) {
            additions += 1;
            assert!(guarded(&name), "{}: {name} is also another machine's", recipe.display());
        }
        for line in text(&recipe).lines().filter(|line| line.ends_with("() {")) {
            assert!(guarded(line.trim_end_matches("() {")), "{}: {line}", recipe.display());
        }
    }
    assert!(additions > 8, "{additions}");
}

#[test]
fn nothing_is_written_that_bitbake_refuses() {
    for file in files().into_iter().filter(|path| !matches!(ending(path), "md" | "cfg")) {
        let text = text(&file);
        for (refused, why) in [
            ("${WORKDIR}/git", "wrynose unpacks into UNPACKDIR"),
            ("AUTOREV", "the same metadata must build the same"),
            ("do_compile[network]", "crates are fetched before"),
            ("allow_empty_password", "the old way of writing"),
            ("debug-tweaks", "wrynose has it no more"),
        ] {
            assert!(!text.contains(refused), "{}: {refused}: {why}", file.display());
        }
        if matches!(ending(&file), "wks" | "in") && text.contains("\npart ") {
            assert!(file.parent().is_some_and(|directory| directory.ends_with("files/wic")), "{}", file.display());
        }
    }
}

#[test]
fn the_disk_has_the_partitions_that_script_updates_and_growth_know() {
    let disk = text(&root().join("yocto-layer/meta-v2g-edge-distro/files/wic/v2g-edge-ab.wks.in"));
    let parts: Vec<&str> = disk.lines().filter(|line| line.starts_with("part ")).collect();
    let option = |line: &str, name: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).map(str::to_owned)
    };
    let names: Vec<String> =
        parts.iter().map(|line| option(line, "--part-name").unwrap_or_else(|| panic!("{line}"))).collect();
    assert_eq!(names, ["boot", "state-a", "state-b", "rootfs-a", "rootfs-b", "data"]);
    for line in &parts {
        assert!(option(line, "--fixed-size").is_some() && option(line, "--align").is_some(), "{line}");
        // A mount point would be written into the slot's fstab, and the slot be another than the bundle's.
        assert!(!line.starts_with("part /"), "{line}");
    }
    let script = text(&root().join("configs/system/u-boot/boot.cmd"));
    let system = text(&root().join("configs/system/rauc/system.conf"));
    let state = text(&root().join("configs/system/u-boot/fw_env.config"));
    for slot in ["rootfs-a", "rootfs-b"] {
        assert!(script.contains(slot) && system.contains(&format!("/dev/disk/by-partlabel/{slot}\n")), "{slot}");
    }
    // The layers' slots have no initramfs.
    assert!(
        script.contains("setenv initramfs -\n") && script.contains("booti ${kernel_addr_r} ${initramfs} ${fdt_addr}")
    );
    for copy in ["state-a", "state-b"] {
        assert!(script.contains(copy) && state.contains(&format!("/dev/disk/by-partlabel/{copy} ")), "{copy}");
    }
    // 16 KiB, as fw_env.config says.
    assert!(
        parts[1..3].iter().all(|line| option(line, "--fixed-size").as_deref() == Some("16K"))
            && state.contains("0x4000")
    );
    // systemd's name of this type is `var`.
    let growth = text(&root().join("configs/system/systemd/repart.d/50-data.conf"));
    assert!(growth.contains("\nType=var\n"), "{growth}");
    let of_data = |line: &str| option(line, "--part-type").as_deref() == Some("4D21B016-B534-45C2-A9FB-5C16E091FD2D");
    assert_eq!(parts.iter().filter(|line| of_data(line)).count(), 1);
    assert!(of_data(parts[5]), "what grows is the last one");
    for machine in files().into_iter().filter(|path| path.display().to_string().contains("/conf/machine/")) {
        let (disk, data) = (
            value(&machine, "V2G_EDGE_DISK").expect("a disk"),
            value(&machine, "V2G_EDGE_DATA_DEVICE").expect("a device"),
        );
        let between = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        assert_eq!(data, format!("/dev/{disk}{between}6"), "{}", machine.display());
    }
}

#[test]
fn what_is_assigned_is_read_as_bitbake_reads_it() {
    let text = "# A = \"1\"\nB += \"\\\n    file://x;subdir=y \\\n    crate://c/1 \\\n\"\nC:prepend:m := \"${THISDIR}/f:\"\ndo_x() {\n    D=\"1\"\n}\nexport E = \"2\"\n";
    let read = assignments(text);
    let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["B", "C:prepend:m", "E"]);
    assert_eq!(sources(&text.replace("B +=", "SRC_URI +=")), ["x"]);
    assert_eq!(
        installed("install $system/a/b.conf ${D}/x\n cp ${S}/configs/c.toml d"),
        ["configs/system/a/b.conf", "configs/c.toml"]
    );
}
