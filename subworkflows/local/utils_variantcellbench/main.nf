//
// What happens before the first task and after the last one
//

include { SIMULATE         } from '../../../modules/local/simulate/main'
include { catalogue        } from './parameters'
include { checkAlignments  } from './weights'
include { checkGeneSets    } from './check_gene_sets'
include { checkParameters  } from './parameters'
include { checkPredictions } from './external_predictions'
include { checkVectors     } from './check_vectors'
include { checkWeights     } from './weights'
include { checkWritable    } from './parameters'
include { chosenEncoders   } from './parameters'
include { codeDigest       } from './code'
include { helpText         } from './parameters'
include { listed           } from './parameters'
include { stopWith         } from './parameters'

workflow PIPELINE_INITIALISATION {
    main:
    if (params.version) {
        println("${workflow.manifest.name} ${workflow.manifest.version}")
        exit(0)
    }
    if (params.help) {
        println(helpText())
        exit(0)
    }
    checkParameters()
    if (params.input && params.simulate) {
        stopWith('--input and --simulate exclude each other | drop one of them (-profile test simulates)')
    }
    if (!params.input && !params.simulate) {
        stopWith('--input: missing | give a samplesheet (docs/input.md), or try -profile test, which simulates a screen')
    }
    listed('strategies', ['alt', 'diff', 'ref'])
    listed('splits', ['variant', 'position'])
    if (params.metrics) {
        listed('metrics', catalogue('metrics').on_request.keySet() as List)
    }
    checkGeneSets(chosenEncoders())
    checkVectors()
    checkPredictions()
    checkWeights('encoders', chosenEncoders())
    checkAlignments(chosenEncoders())
    checkWritable('outdir')
    if (!workflow.stubRun && chosenEncoders().any { name -> catalogue('encoders').entries[name].weights }) {
        checkWritable('store')
    }

    def simulated = params.simulate ? [[id: 'simulated_tp53']] : []
    SIMULATE(
        channel.fromList(simulated),
        channel.fromPath("${projectDir}/assets/simulate/*").collect(sort: { asset -> asset.name }),
        codeDigest(['vcb_simulate.py']),
    )

    emit:
    samplesheet = params.simulate ? SIMULATE.out.samplesheet.first() : channel.value(file(params.input)) // channel: path(samplesheet.csv)
}

// Units of a plan table by state
def unitStates(plan) {
    def lines = plan.readLines()
    def column = lines[0].tokenize('\t').indexOf('state')
    return column < 0 ? [:] : lines.drop(1).countBy { line -> line.split('\t', -1)[column] }
}

// Last lines of a run: how many units succeeded and where the report is, or the one line that says what went wrong
def completionSummary(outdir) {
    def plan = file("${outdir}/tables/plan.tsv")
    if (workflow.success && plan.exists()) {
        def states = unitStates(plan)
        def others = states.findAll { state, _count -> state != 'ok' }.collect { state, count -> "${count} ${state}" }.sort().join(', ')
        log.info("units: ${states.ok ?: 0} ok${others ? ', ' + others : ''} (${outdir}/tables/plan.tsv)")
        log.info("report: ${outdir}/report/multiqc_report.html")
    }
    def lines = workflow.success ? [] : (workflow.errorReport ?: '').readLines()
    def ours = lines.reverse().find { text -> text.contains('vcb: error: ') }
    if (ours) {
        log.error(ours.substring(ours.indexOf('vcb: error: ')))
    }
}

workflow PIPELINE_COMPLETION {
    take:
    ch_tables // channel: path(tables)
    ch_report // channel: path(multiqc_report.html)

    main:
    ch_tables
        .combine(ch_report)
        .map { tables, report ->
            def states = unitStates(tables.resolve('plan.tsv'))
            def total = states.values().sum() ?: 0
            def succeeded = states.ok ?: 0
            if (total && succeeded < params.min_success * total) {
                error("vcb: error: only ${succeeded} of ${total} units succeeded, less than --min_success ${params.min_success} | see ${params.outdir}/tables/plan.tsv")
            }
            return report
        }

    def outdir = params.outdir
    workflow.onComplete {
        completionSummary(outdir)
    }
}
