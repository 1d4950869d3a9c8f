"""Open the jobs where the settings say that they are: rows and files."""

from service.jobs.files.bucket import open_bucket
from service.jobs.files.objects import ObjectFiles
from service.jobs.rows.postgres import PostgresJobStore
from service.jobs.rows.schema import JobStoreError
from service.jobs.rows.store import JobStore
from service.scratch import ScratchFolder
from service.settings import Settings

SCRATCH = "matting-job-"


def open_job_store(settings: Settings) -> JobStore:
    """Open rows and files of jobs, and try that they can be written; raises JobStoreError."""
    store = open_rows(settings)
    if settings.storage_url is None:
        return store
    try:
        if store.files.list_ids():
            raise JobStoreError(
                f"{store.files.folder} holds files of jobs, which MATTING_STORAGE_URL would put "
                "out of reach: let these jobs end and delete them first, or remove the folder"
            )
        scratch = ScratchFolder(settings.data_dir, SCRATCH)
        bucket, name = open_bucket(settings.storage_url), store.find_storage_name()
        store.files = ObjectFiles(bucket, name, store.files.folder, scratch)
    except BaseException:
        store.close()
        raise
    return store


def open_rows(settings: Settings) -> JobStore:
    """Open the rows of jobs, with the files in a folder."""
    if settings.database_url is None:
        return JobStore.open(settings.data_dir)
    folder = settings.jobs_dir
    if folder is None and settings.storage_url is None:
        raise JobStoreError(
            "MATTING_DATABASE_URL needs a place for the files of jobs that all services on the "
            "database share: MATTING_STORAGE_URL, or the folder MATTING_JOBS_DIR"
        )
    return PostgresJobStore.open_shared(
        settings.database_url, folder or settings.data_dir, settings.job_lease_s
    )
