//
// From units of the plan to tasks, and back
//

include { catalogue  } from './parameters'
include { codeDigest } from './code'

// Tasks of one model's process
def ofProcess(ch_tasks, process) {
    return ch_tasks.filter { task -> task[0].process == process }
}

// Digest of a step and of the files of the models that a process serves
def modelCode(executable, process) {
    def names = catalogue('models').entries.findAll { _name, entry -> entry.process == process }.keySet()
    return codeDigest([executable] + names.collect { name -> "vcbench/models/${name}.py".toString() })
}

// One or several files as a list sorted by name, so that their order never changes a task's hash;
// never sorted in place: the list may be on its way to other consumers
def sortedFiles(files) {
    return (files instanceof Collection ? files as List : [files]).toUnique().toSorted { item -> item.name }
}

// Settings of the models of a task as one JSON object {model: {setting: value}}
def taskSettings(units) {
    def models = units.collectEntries { unit -> [unit.model, unit.settings] }.sort()
    return '{' + models.collect { model, settings -> "\"${model}\": ${settings}" }.join(', ') + '}'
}

// Units whose fitted model is among the files
def trainedUnits(units, models) {
    def names = models.collect { item -> item.name }
    return units.findAll { unit -> "${unit}.model".toString() in names }
}
