//
// Digest of the Python a task can import, so that -resume notices an edit of a module and only the tasks that use it run again
//

// bin/-relative files that `entries` (also bin/-relative) import, themselves included
def importedFiles(entries, seen = [] as Set) {
    entries.findAll { entry -> !(entry in seen) && file("${projectDir}/bin/${entry}").exists() }.each { entry ->
        seen << entry
        importedFiles(imports(file("${projectDir}/bin/${entry}").text), seen)
    }
    return seen
}

// Candidate files of every vcbench module named in import statements (top level or inside functions)
def imports(text) {
    def plain = (text =~ /(?m)^\s*import\s+(vcbench[\w.]*)/).collect { match -> match[1] }
    def from = (text =~ /(?m)^\s*from\s+(vcbench[\w.]*)\s+import\s+(\([^)]*\)|[^\n#]+)/).collect { match ->
        def names = match[2].replaceAll(/[()]|#[^\n]*/, ' ').tokenize(',').collect { name -> name.trim().tokenize(' ')[0] }
        [match[1]] + names.findAll { name -> name }.collect { name -> "${match[1]}.${name}".toString() }
    }
    return (plain + from.flatten()).unique().collectMany { module ->
        def path = module.replace('.', '/')
        def parents = path.tokenize('/').inits().findAll { parts -> parts }.collect { parts -> "${parts.join('/')}/__init__.py".toString() }
        ["${path}.py".toString()] + parents
    }.unique()
}

// SHA-256 over names and contents of the files reachable from `entries`, for example ['vcb_train.py', 'vcbench/models/gears.py']
def codeDigest(entries) {
    def digest = java.security.MessageDigest.getInstance('SHA-256')
    importedFiles(entries).sort().each { name ->
        digest.update("${name}\n".getBytes('UTF-8'))
        digest.update(file("${projectDir}/bin/${name}").bytes)
    }
    return digest.digest().encodeHex().toString().take(16)
}
