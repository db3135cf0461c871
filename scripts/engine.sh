#!/usr/bin/env bash
# Print the path of a Nextflow that meets the floor: the one on PATH, else pinned jars brought into .engine/ through
# Java 17+ and Maven. Quick when nothing changed; safe to interrupt and to run twice at once (built aside, then renamed).
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

HERE=$ROOT/scripts/engine
HOME_OF=nextflow-$NEXTFLOW_FLOOR
pins=$(digest "$HERE/pom.xml" "$HERE/jars.sha256" "$HERE/launcher.txt" "$HERE/pack.py" "${BASH_SOURCE[0]}")
too_old=

# A Nextflow on PATH that meets the floor. Asking it costs a Java start, so its answer is kept beside what would change it.
system_nextflow() {
  local candidate facts version
  while IFS= read -r candidate; do
    case $candidate in "$ENGINE"/*) continue ;; esac
    facts="$(ls -lLn "$candidate") NXF_VER=${NXF_VER:-}"
    if [ "$(sed -n 1p "$ENGINE/system-nextflow" 2>/dev/null)" = "$facts" ]; then
      version=$(sed -n 2p "$ENGINE/system-nextflow")
    else
      version=$("$candidate" -v </dev/null 2>/dev/null | awk '/version/ {print $3}') || version=
      if [ -n "$version" ] && mkdir -p "$ENGINE" 2>/dev/null; then
        printf '%s\n%s\n' "$facts" "$version" >"$ENGINE/system-nextflow.$$"
        mv -f "$ENGINE/system-nextflow.$$" "$ENGINE/system-nextflow"
      fi
    fi
    if [ -n "$version" ] && at_least "$version" "$NEXTFLOW_FLOOR"; then
      nextflow=$candidate
      return 0
    fi
    too_old="$too_old; $candidate is not used: its version is ${version:-unknown}"
  done < <(type -aP nextflow)
  return 1
}

own_nextflow() {
  nextflow=$ENGINE/bin/nextflow
  [ -x "$nextflow" ] && [ "$(cat "$ENGINE/$HOME_OF/pins" 2>/dev/null)" = "$pins" ]
}

build() {
  local python uv temporary java
  [[ $ROOT != *[[:space:]]* ]] || die "Nextflow's launcher cannot start from a folder with a blank in its path: move the project ($ROOT)"
  command -v java >/dev/null 2>&1 && java=$(java -version 2>&1 | awk -F'"' '/version/ {print $2; exit}') || java=
  [ -n "$java" ] || die "Java was not found: install Java 17 or later (Debian: apt-get install openjdk-17-jre-headless)$too_old"
  at_least "$java" 17 || die "Java is $java, Nextflow needs 17 or later (Debian: apt-get install openjdk-17-jre-headless)$too_old"
  command -v mvn >/dev/null 2>&1 ||
    die "neither Nextflow >= $NEXTFLOW_FLOOR nor Maven was found: install one of them (Debian: apt-get install maven)$too_old"
  python=$(need_python)
  lock "$python"
  own_nextflow && return # another set-up made it while this one waited
  uv=$(find_uv "$python")
  temporary=$(mktemp -d "$ENGINE/tmp.XXXXXX")
  say "bringing Nextflow $NEXTFLOW_FLOOR into .engine$too_old"
  mkdir "$temporary/new"
  cp "$HERE/pom.xml" "$temporary/pom.xml"
  quietly "fetching Nextflow's jars with Maven" mvn -B -q -f "$temporary/pom.xml" \
    dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$temporary/new/lib"
  quietly "checking Nextflow's jars" "$python" "$HERE/pack.py" "$HERE/jars.sha256" "$temporary/new/lib" "$temporary/new/$HOME_OF-one.jar"
  private_index "$python"
  quietly "installing Nextflow's launcher" "$uv" pip install --quiet --python "$python" --no-deps --require-hashes \
    --target "$temporary/new/launcher" -r "$HERE/launcher.txt"
  echo "$pins" >"$temporary/new/pins"
  # the wrapper finds its folder from its own place, so the project may be moved
  cat >"$temporary/nextflow" <<W
#!/usr/bin/env bash
here=\$(cd "\$(dirname "\${BASH_SOURCE[0]}")/.." && pwd)
export NXF_VER=$NEXTFLOW_FLOOR NXF_OFFLINE=\${NXF_OFFLINE:-true} NXF_HOME=\${NXF_HOME:-\$here/home} NXF_BIN=\$here/$HOME_OF/$HOME_OF-one.jar
exec bash "\$here/$HOME_OF/launcher/bin/nextflow" "\$@"
W
  chmod +x "$temporary/nextflow"
  rm -rf "${ENGINE:?}/$HOME_OF"
  mv "$temporary/new" "$ENGINE/$HOME_OF"
  mkdir -p "$ENGINE/bin"
  mv -f "$temporary/nextflow" "$ENGINE/bin/nextflow"
  rm -rf "$temporary"
}

if ! system_nextflow && ! own_nextflow; then
  build # not inside a condition: there the shell would go on after an error
  own_nextflow || die "Nextflow could not be brought; run make setup again"
fi
echo "$nextflow"
