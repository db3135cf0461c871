# Fits the standard two-group model of limma to every data set of a folder, for tests/external/limma.py.
#   Rscript limma.R FOLDER     reads FOLDER/<name>.<n1>.tsv (genes x samples, the first n1 are group 1), writes <name>.result
suppressMessages(library(limma))
folder <- commandArgs(trailingOnly = TRUE)[1]
for (path in list.files(folder, pattern = "[.]tsv$", full.names = TRUE)) {
    values <- as.matrix(read.delim(path, header = FALSE))
    first <- as.integer(sub(".*[.]([0-9]+)[.]tsv$", "\\1", path))
    design <- cbind(1, as.numeric(seq_len(ncol(values)) <= first))
    fit <- suppressWarnings(eBayes(lmFit(values, design)))
    table <- cbind(fit$t[, 2], fit$p.value[, 2], fit$df.total, fit$df.prior, fit$s2.prior)
    write(formatC(t(table), digits = 17, format = "g"), sub("[.][0-9]+[.]tsv$", ".result", path), ncolumns = 5)
}
cat(R.version.string, "limma", as.character(packageVersion("limma")), "\n")
