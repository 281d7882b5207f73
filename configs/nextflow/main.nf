// A study with Nextflow: slides -> nuclei -> exports -> one table and page of all.
//
//     nextflow run configs/nextflow --slides study.csv --output /results --shares 8 --exports 'csv anndata'
//
// A process per share, all on the same folder of results. These go straight to --output, which all
// machines see, and not by way of work folders: claims there see to it that no slide is done twice,
// and a share that is tried again goes on where it stopped. --slides is a folder or, when it ends in
// .csv, a manifest, whose columns `roi` and any others are taken in.
nextflow.enable.dsl = 2

params.slides = null
params.output = null
params.shares = 1
params.options = ''
params.exports = ''

def quoted(text) {
    "'" + text.toString().replace("'", "'\\''") + "'"
}

def absolute(path) {
    file(path).toAbsolutePath()
}

def manifest() {
    params.slides.toString().endsWith('.csv') ? "--manifest ${quoted(absolute(params.slides))}" : ''
}

process WSI_ENGINE_RUN {
    tag "share ${share}/${params.shares}"

    input:
    val share

    output:
    path "share_${share}.jsonl", emit: log

    script:
    """
    # Slides that failed (1) or are damaged in places (3) are told in summary.csv; that is no
    # reason to do the share again.
    status=0
    OMP_NUM_THREADS=${task.cpus} wsi-engine run ${manifest() ?: quoted(absolute(params.slides))} \\
        --output ${quoted(absolute(params.output))} \\
        --share ${share}/${params.shares} --workers ${task.cpus} \\
        --log share_${share}.jsonl ${params.options} || status=\$?
    grep -q '"archive_ended"' share_${share}.jsonl || exit \$((status ? status : 1))
    """
}

process WSI_ENGINE_EXPORT {
    tag "${result}"

    input:
    val result

    output:
    val result

    script:
    """
    wsi-engine export ${quoted(result)} ${params.exports.tokenize().collect { "--to ${it}" }.join(' ')}
    """
}

process WSI_ENGINE_COHORT {
    input:
    val logs

    output:
    val true

    script:
    """
    wsi-engine cohort ${quoted(absolute(params.output))} ${manifest()}
    """
}

workflow {
    if (!params.slides || !params.output) {
        error "give --slides and --output"
    }
    WSI_ENGINE_RUN(channel.of(1..params.shares))
    all_logs = WSI_ENGINE_RUN.out.log.collect()
    WSI_ENGINE_COHORT(all_logs)
    if (params.exports) {
        WSI_ENGINE_EXPORT(all_logs.flatMap { files("${params.output}/*/run.json")*.parent })
    }
}
