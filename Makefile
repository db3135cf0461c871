# The two commands a newcomer needs: make demo, make test. Both bring the engine and the Python environment themselves.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint images clean distclean

SHELL  := bash
OUTDIR := results

help: ## Show this help
	@echo 'variantcellbench: which virtual cell model predicts what a protein variant does to a cell?'
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo 'Needs Python 3.11, and either Nextflow >= 25.04.0 or Java 17 with Maven. All that is brought lies in .engine/ and .venv/.'

setup: ## Bring Nextflow (.engine) and the locked Python environment (.venv); instant when nothing changed
	@scripts/python.sh
	@scripts/engine.sh >/dev/null

demo: setup ## Simulate a TP53 variant screen, benchmark models on it and write the report (OUTDIR=results)
	@scripts/nextflow.sh run . -profile test,local --outdir '$(OUTDIR)'
	@echo 'report: $(OUTDIR)/report/multiqc_report.html'

test: setup ## Lint, unit and contract tests, and the pipeline on the real engine
	@scripts/test.sh

lint: setup ## nextflow lint, nf-core lint, ruff
	@scripts/lint.sh

images: ## Build the container images with docker or podman (IMAGES="light esm2" for some of them)
	@scripts/build_images.sh $(IMAGES)

clean: ## Remove Nextflow's work folder, logs and caches; results and what setup brought stay
	@rm -rf work .nextflow .nextflow.log* .pytest_cache .ruff_cache
	@find bin tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Also remove what setup brought (.engine, .venv)
	@rm -rf .engine .venv
