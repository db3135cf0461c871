//
// Tasks that ended without output, with the reason their own error output gives
//

// Last attempt of every task in the trace file of this run that never succeeded
def failedTasks(trace) {
    def lines = trace.exists() ? trace.readLines() : []
    def header = lines ? lines[0].tokenize('\t') : []
    def rows = lines.drop(1).collect { line -> [header, line.split('\t', -1).toList()].transpose().collectEntries() }
    return rows
        .groupBy { row -> [row.process, row.tag] }
        .values()
        .findAll { attempts -> attempts.every { row -> row.status in ['FAILED', 'ABORTED'] } }
        .collect { attempts -> attempts.max { row -> row.task_id as int } }
}

// The last line a user needs: our own error line, else the last line of the error output
def reason(row) {
    def errors = file("${row.workdir}/.command.err")
    def lines = errors.exists() ? errors.readLines().findAll { line -> line.trim() } : []
    def ours = lines.reverse().find { line -> line.contains('vcb: error: ') }
    if (ours) {
        return ours.substring(ours.indexOf('vcb: error: ') + 12)
    }
    def exit = row.exit.isInteger() ? row.exit as int : -1
    if (exit == 137) {
        return 'killed: out of memory (exit 137)'
    }
    if (exit in [140, 143] || exit == Integer.MAX_VALUE || exit < 0) {
        return "killed: time limit or lost node (exit ${row.exit})"
    }
    return "${lines ? lines.last().trim().replace("${row.workdir}/", '').take(300) : 'no message'} (exit ${exit})"
}

// JSON list of {stage, process, task, exit, reason}, one per task id, sorted; waits until the trace explains `missing` ids
def failureReport(traceFile, missing) {
    def trace = file(traceFile)
    def rows = []
    (1..20).find { _attempt ->
        rows = failedTasks(trace)
        def explained = rows.collect { row -> row.tag }
        def done = missing.every { id -> id in explained }
        if (!done) {
            sleep(250)
        }
        return done
    }
    def list = rows.collect { row ->
        def process = row.process.tokenize(':').last()
        [stage: process.tokenize('_').last(), process: process, task: row.tag, exit: row.exit, reason: reason(row)]
    }
    return groovy.json.JsonOutput.toJson(list.sort { item -> "${item.process} ${item.task}" })
}
