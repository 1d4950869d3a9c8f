// The choice of a network.

/** Fill a select with the models of the service; those for which `isDefault` holds are what model=auto takes. */
export function fillModels(select, models, isDefault) {
  const options = models.map((model) => new Option(model.name, model.name, isDefault(model), isDefault(model)));
  select.replaceChildren(...options);
}

/** Return the option of the API for what is chosen in a select, [name, value], or none for the default. */
export function modelOption(select) {
  const chosen = select.selectedOptions[0];
  return chosen && !chosen.defaultSelected ? [["model", chosen.value]] : [];
}
