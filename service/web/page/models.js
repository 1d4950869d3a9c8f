// The choice of a network.

/** Fill a select with the models of the service; those for which `isDefault` holds are what model=auto takes. */
export function fillModels(select, models, isDefault) {
  const options = models.map((model) => new Option(model.name, model.name, isDefault(model), isDefault(model)));
  select.replaceChildren(...options);
}
