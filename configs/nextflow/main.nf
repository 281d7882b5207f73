// An archive with Nextflow: a process per share, all on the same folder of results.
//
//     nextflow run configs/nextflow --slides /archive --output /results --shares 8
//
// Results go straight to --output, which all machines see, and not by way of work folders: claims
// there see to it that no slide is done twice, and a share that is tried again goes on where it
// stopped. --slides is a folder or, when it ends in .csv, a manifest.
nextflow.enable.dsl = 2

params.slides = null
params.output = null
params.shares = 1
params.options = ''

process WSI_ENGINE_RUN {
    tag "share ${share}/${params.shares}"

    input:
    val share

    output:
    path "share_${share}.jsonl", emit: log

    script:
    def quoted = { text -> "'" + text.toString().replace("'", "'\\''") + "'" }
    def slides = file(params.slides, checkIfExists: true).toAbsolutePath()
    def output = file(params.output).toAbsolutePath()
    def input = slides.name.endsWith('.csv') ? "--manifest ${quoted(slides)}" : quoted(slides)
    """
    # Slides that failed (1) or are damaged in places (3) are told in summary.csv; that is no
    # reason to do the share again.
    status=0
    OMP_NUM_THREADS=${task.cpus} wsi-engine run ${input} --output ${quoted(output)} \\
        --share ${share}/${params.shares} --workers ${task.cpus} \\
        --log share_${share}.jsonl ${params.options} || status=\$?
    grep -q '"archive_ended"' share_${share}.jsonl || exit \$((status ? status : 1))
    """
}

workflow {
    if (!params.slides || !params.output) {
        error "give --slides and --output"
    }
    WSI_ENGINE_RUN(Channel.of(1..params.shares))
}
