#!/usr/bin/env bash
# Look at the report: synthetic tables -> vcb_report.py -> multiqc -> pictures (needs Debian's chromium).
# usage: [WIDTHS="1400 480"] [HEIGHT=2400] [MODULES="all vcb_failed"] tests/python/report/render.sh OUT_DIR
# A module's id shows that chapter alone (a headless browser takes its picture from the top of the page only).
set -euo pipefail
project=$(cd "$(dirname "$0")/../../.." && pwd)
out=$1; rm -rf "$out/report"; mkdir -p "$out"
export PATH="$project/.venv/bin:$PATH"
# shellcheck disable=SC2046
python "$project/bin/vcb_report.py" $(python "$project/tests/python/report/synthetic.py" "$out/inputs") --out-dir "$out/report"
multiqc -q -f -o "$out" -n multiqc_report.html -c "$project/assets/multiqc_config.yml" \
    -c "$out/report/vcbench_multiqc_config.yml" "$out/report"
for module in ${MODULES:-all}; do
    page=$(realpath "$out")/look_$module.html
    cp "$out/multiqc_report.html" "$page"
    [ "$module" = all ] || echo "<style>.mqc-module-section { height: 0; overflow: hidden } \
        #mqc-module-section-$module { height: auto }</style>" >> "$page"
    for width in ${WIDTHS:-1400 480}; do
        chromium --headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
            --virtual-time-budget=8000 --window-size="$width,${HEIGHT:-2400}" --screenshot="$out/${module}_$width.png" \
            "file://$page" 2>/dev/null
    done
done
