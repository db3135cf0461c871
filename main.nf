#!/usr/bin/env nextflow
/*
    variantcellbench: which virtual cell model predicts what a protein variant does to a cell, and does any beat a simple baseline?
*/

include { PIPELINE_COMPLETION     } from './subworkflows/local/utils_variantcellbench/main'
include { PIPELINE_INITIALISATION } from './subworkflows/local/utils_variantcellbench/main'
include { VARIANTCELLBENCH        } from './workflows/variantcellbench'

workflow {
    main:
    PIPELINE_INITIALISATION()
    VARIANTCELLBENCH(PIPELINE_INITIALISATION.out.samplesheet)
    PIPELINE_COMPLETION(VARIANTCELLBENCH.out.tables, VARIANTCELLBENCH.out.report)
}
